"""Votes are read in every form they come in, and what contradicts itself is refused by its row."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

from pomona.arena import OUTCOMES, VoteColumns, Votes, read_votes
from pomona.errors import PomonaError
from pomona.records import Records, TableSource

ROWS = [
    {"model_a": "y", "model_b": "x", "winner": "model_a", "prompt": "1", "voter": "u"},
    {"model_a": "x", "model_b": "z", "winner": "model_b", "prompt": "1", "voter": None},
    {"model_a": "x", "model_b": "y", "winner": "tie", "prompt": "2", "voter": "w"},
    {"model_a": "z", "model_b": "y", "winner": "tie (bothbad)", "prompt": "2", "voter": "u"},
]
TABLE = pa.Table.from_pylist(ROWS)


def told(votes: Votes) -> list[tuple[str, str, str, int]]:
    rows = zip(votes.a, votes.b, votes.outcome, votes.count, strict=True)
    return [(votes.models[a], votes.models[b], OUTCOMES[o], int(n)) for a, b, o, n in rows]


WANTED = [(r["model_a"], r["model_b"], r["winner"], 1) for r in ROWS]


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "json", "json.gz", "table"])
def test_the_same_votes_in_every_format(form: str, tmp_path: Path) -> None:
    source: Any = tmp_path / f"votes.{form}"
    if form == "csv":
        lines = [",".join("" if v is None else str(v) for v in r.values()) for r in ROWS]
        source.write_text("\n".join([",".join(ROWS[0]), *lines, ""]))
    elif form == "jsonl":
        source.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif form == "parquet":
        parquet.write_table(TABLE, source)
    elif form == "json":
        source.write_text(json.dumps(ROWS))
    elif form == "json.gz":
        source.write_bytes(gzip.compress(json.dumps(ROWS, indent=1).encode()))
    else:
        source = TABLE
    votes = read_votes(source)
    assert told(votes) == WANTED
    assert votes.models == ("x", "y", "z") and votes.n == len(votes) == 4
    assert votes.columns.column_names == ["prompt", "voter"]
    assert votes.codes("prompt")[0].tolist() == [0, 0, 1, 1]


def test_counts_of_pairs_become_rows_of_several_votes() -> None:
    table = pa.table(
        {
            "model_a": ["x", "x", "w"],
            "model_b": ["y", "z", "x"],
            "win_a": [3, 0, 0],
            "win_b": [0, 2, 0],
            "tie_1": [1, 0, 0],
            "tie_2": [0, 5, 0],
        }
    )
    votes = read_votes(table)
    assert told(votes) == [
        ("x", "y", "model_a", 3),
        ("x", "y", "tie", 1),
        ("x", "z", "model_b", 2),
        ("x", "z", "tie (bothbad)", 5),
    ]
    assert votes.n == 11 and votes.columns.column_names == []


def test_a_column_n_counts_votes_and_none_of_them_is_no_row() -> None:
    votes = read_votes(TABLE.append_column("n", pa.array([2, 1, 0, 4])))
    assert [one[3] for one in told(votes)] == [2, 1, 4]
    assert votes.columns["prompt"].to_pylist() == ["1", "1", "2"]


def test_other_words_for_the_outcome() -> None:
    for words in (["left", "B", "draw", "both_bad"], ["y", "z", "tie", "tie (bothbad)"]):
        votes = read_votes(TABLE.set_column(2, "winner", pa.array(words)))
        assert told(votes) == WANTED
    columns = {"winner_model_a": [1, 0, 0], "winner_model_b": [0, 1, 0], "winner_tie": [0, 0, 1]}
    table = pa.table({**TABLE.slice(0, 3).drop_columns("winner").to_pydict(), **columns})
    assert told(read_votes(table)) == WANTED[:3]


def test_columns_can_be_called_otherwise() -> None:
    table = TABLE.rename_columns(["one", "two", "better", "question_text", "who"])
    names = VoteColumns("one", "two", "better", prompt="question_text", voter="who")
    votes = read_votes(table, names, keep=["voter"])
    assert told(votes) == WANTED and votes.columns.column_names == ["voter"]


def test_battles_of_the_arena(tmp_path: Path) -> None:
    def turn(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": text}]

    rows = [
        {
            "model_a": "x",
            "model_b": "y",
            "winner": winner,
            "judge": "arena_user_1",
            "anony": anony,
            "tstamp": 1690000000.5,
            "conversation_a": turn("Short."),
            "conversation_b": turn("Longer than that."),
            "conv_metadata": {
                "sum_assistant_a_tokens": 3,
                "sum_assistant_b_tokens": 5,
                "header_count_a": {"h1": 1, "h2": 2},
                "header_count_b": {"h1": 0, "h2": 0},
            },
        }
        for winner, anony in (("model_a", True), ("tie", False), ("model_b", True))
    ]
    (file := tmp_path / "clean_battle.json").write_text(json.dumps(rows))
    votes = read_votes(file)
    assert told(votes) == [("x", "y", "model_a", 1), ("x", "y", "model_b", 1)]
    assert votes.notes == ["votes of people who knew the models are left out (anony is false): 1"]
    row = votes.columns.to_pylist()[0]
    assert row["prompt"] == "Why?" and row["completion_b"] == "Longer than that."
    assert row["voter"] == "arena_user_1" and row["time"] == 1690000000.5
    assert row["length_a"] == 3 and row["headers_a"] == 3 and row["headers_b"] == 0
    (lines := tmp_path / "battles.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert read_votes(lines).columns.select(sorted(row)).to_pylist()[0] == row


def test_a_long_list_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pomona.arena.battles._ROWS", 64)
    monkeypatch.setattr("pomona.arena.battles._BLOCK", 100)
    rows = [{**ROWS[n % 4], "id": n if n < 400 else str(n), "text": "ä" * 40} for n in range(412)]
    (file := tmp_path / "votes.json").write_text(json.dumps(rows, ensure_ascii=False))
    votes = read_votes(file)
    assert len(votes) == 412 and told(votes)[-4:] == WANTED
    assert votes.columns["id"].to_pylist()[-1] == "411"


def test_llmfao(llmfao: Votes) -> None:
    assert (len(llmfao), len(llmfao.models)) == (8931, 59)
    assert np.bincount(llmfao.outcome).tolist() == [2911, 2549, 3471]
    assert [len(llmfao.codes(name)[1]) for name in ("item", "prompt", "voter")] == [2139, 13, 124]


def test_leaderbot(leaderbot: Votes) -> None:
    assert (leaderbot.n, len(leaderbot.models)) == (1_670_250, 129)
    assert np.bincount(leaderbot.outcome, leaderbot.count).tolist()[2:] == [281_121, 295_254]


def without(row: int, **values: Any) -> pa.Table:
    rows = [dict(one) for one in ROWS]
    rows[row].update(values)
    return pa.Table.from_pylist(rows)


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (
            without(2, winner="z"),
            'the table, row 3: "winner" is "z" — write model_a, model_b, tie, tie (bothbad), or the '
            "name of a model of the row",
        ),
        (without(3, model_b="z"), 'the table, row 4: "z" is on both sides — leave the row out'),
        (without(0, model_a=""), 'the table, row 1: "model_a" is empty — name both models'),
        (TABLE.drop_columns("winner"), 'there is no column "winner" — known: '),
        (TABLE.drop_columns("model_b"), 'there is no column "model_b" — did you mean "model_a"?'),
        (TABLE.slice(0, 0), "the table: there are no votes — check how it was written"),
        (
            TABLE.append_column("n", pa.array([1, 2, 2.5, 1])),
            'the table, row 3: "n" is 2.5 — give whole numbers from 0 on',
        ),
        (
            TABLE.append_column("n", pa.array(["1", "-1", "1", "1"])),
            'the table, row 2: "n" is -1 — give whole numbers from 0 on',
        ),
        (TABLE.append_column("n", pa.array([0, 0, 0, 0])), "the table: there are no votes"),
        (
            TABLE.append_column("n", pa.array([1, 1, 2**53, 1])),
            'row 3: "n" is 9007199254740992 — give whole numbers from 0 on, below 2^53',
        ),
        (
            TABLE.append_column("n", pa.array([2**53 - 1] * 4)),
            "3.6e+16 votes are more than 2^53 — check the column of counts",
        ),
        (
            pa.table({"model_a": ["tie", "x"], "model_b": ["x", "tie"], "winner": ["x", "tie"]}),
            'the table, row 2: "tie" in "winner" is a model and a side — write model_a',
        ),
        (
            TABLE.append_column("win_a", pa.array([1, 1, 1, 1])),
            '"winner" and "win_a" and "win_b" both say who won — leave out all but one',
        ),
        (
            TABLE.drop_columns("winner").append_column("win_a", pa.array([1, 1, 1, 1])),
            'there is no column "win_b" — give the wins of both models',
        ),
        (
            pa.table({"model_a": ["a", "b"], "model_b": ["b", "a"], "winner": ["a", "a"]}),
            'the table, row 1: "a" in "winner" is a model and a side — write model_a',
        ),
    ],
)
def test_what_is_wrong_is_said_by_its_row(table: pa.Table, text: str) -> None:
    with pytest.raises(PomonaError) as raised:
        read_votes(table)
    assert text in str(raised.value)


def test_a_model_may_be_called_as_an_outcome_where_no_winner_is_told_by_name() -> None:
    rows = [("tie", "x", "tie"), ("x", "tie", "model_b"), ("model_b", "x", "model_a")]
    table = pa.table(
        dict(zip(("model_a", "model_b", "winner"), zip(*rows, strict=True), strict=True))
    )
    assert told(read_votes(table)) == [(*row, 1) for row in rows]


def test_a_name_as_it_is_known_goes_before_one_in_capitals() -> None:
    other = pa.array(["y", "x", "x", "z"])
    assert told(read_votes(TABLE.add_column(0, "Winner", other))) == WANTED


def test_a_column_that_is_named_as_another_is_not_proposed() -> None:
    with pytest.raises(PomonaError) as raised:
        read_votes(TABLE, VoteColumns(model_a="model_b"))
    assert '"model_b" is named as model_a, and no column is left' in str(raised.value)
    assert 'did you mean "model_a"?' in str(raised.value)


def test_two_meanings_of_one_column_are_refused() -> None:
    with pytest.raises(PomonaError, match='"prompt" is named as prompt and as item'):
        read_votes(TABLE, VoteColumns(prompt="prompt", item="prompt"))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[", "row 1: is not JSON, or ends in the middle"),
        ("[]", "there are no votes"),
        ('[{"model_a": "x"', "row 1: is not JSON, or ends in the middle"),
        ('[{"model_a": "x"}, 3]', "row 2: is no object of JSON"),
        ('[{"model_a": "x"}] []', "is not JSON: there is more after the list"),
        ("[" * 100_000, "is not JSON: it is nested too deeply"),
        (
            '[{"model_a": "\\ud800", "model_b": "y", "winner": "tie"}]',
            '"model_a" holds half a char',
        ),
        ('[{"model_a": "x", "model_b": "y", "winner": {}}]', 'no column "winner"'),
    ],
)
def test_a_damaged_list_is_refused(text: str, error: str, tmp_path: Path) -> None:
    (file := tmp_path / "votes.json").write_text(text)
    with pytest.raises(PomonaError, match=error):
        read_votes(file)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (file := tmp_path / "votes.csv").write_text("")
    with pytest.raises(PomonaError, match="the file is empty"):
        read_votes(file)


def test_rows_without_a_winner_are_no_votes() -> None:
    rows = [*ROWS, {**ROWS[0], "winner": None}, {**ROWS[0], "winner": " "}]
    votes = read_votes(Records.of(TableSource(pa.Table.from_pylist(rows), "here")))
    assert len(votes) == len(ROWS)
    assert (votes.where, votes.notes) == ("here", ["2 rows without a winner are no votes"])
    with pytest.raises(PomonaError, match="there are no votes"):
        read_votes(pa.Table.from_pylist([{**ROWS[0], "winner": ""}]))


def test_groups_of_rows_whatever_their_type(tmp_path: Path) -> None:
    values = {
        "numbers": [7, 3, 7, 3, 9],
        "apart": [10**12, -5, 10**12, -5, 3],
        "texts": ["b", "a", "b", "a", "c"],
        "lists": [[1], [2], [1], [2], []],
        "gaps": [7, None, 7, None, 9],
    }
    rows = {"model_a": [*"xyxzx"], "model_b": [*"yxyxy"], "winner": [*"xyxzx"]}
    file = tmp_path / "votes.parquet"
    parquet.write_table(pa.table({**rows, **values}), file)
    votes = read_votes(file)
    for column in values:
        codes = votes.groups(column).tolist()
        if column == "gaps":
            assert codes == [0, -1, 0, -1, 1]
        else:
            assert sorted(set(codes)) == [0, 1, 2]
            assert codes[0] == codes[2] and codes[1] == codes[3]
    assert len(set(votes.groups("numbers", pairs=True).tolist())) == 4  # x-z is not x-y
    assert votes.groups("gaps", pairs=True).tolist()[1] == -1
    some = votes.take(np.array([1, 4]))
    assert sorted(some.groups("numbers").tolist()) == [0, 1]
    with pytest.raises(PomonaError, match='there is no column "number" — did you mean "numbers"'):
        votes.groups("number")


def test_models_that_only_other_rows_of_the_file_name_are_none(tmp_path: Path) -> None:
    rows = {"model_a": ["x", "x", "q"], "model_b": ["y"] * 3, "winner": ["x", "y", ""]}
    parquet.write_table(pa.table(rows), tmp_path / "votes.parquet")
    assert read_votes(tmp_path / "votes.parquet").models == ("x", "y")


def test_pairs_are_counted_alike_with_a_table_of_all_and_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 6, 400)
    b = (a + rng.integers(1, 6, 400)) % 6
    winner = np.array(OUTCOMES)[rng.integers(0, 4, 400)]
    table = pa.table({"model_a": a, "model_b": b, "winner": winner, "n": rng.integers(1, 4, 400)})
    votes, told = read_votes(table), []
    for most in (6, 5):
        monkeypatch.setattr("pomona.arena.loops._TABLE", most)
        one = votes.take(np.arange(400))
        told.append((*one.cells, one.totals))
        assert one.totals.sum() == votes.n
    for one, other in zip(*told, strict=True):
        assert np.array_equal(one, other)
