"""Ratings as users ask for them: rows best first, every bound, notes, errors by name, the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from pomona.arena import Votes, fit
from pomona.cli import main
from pomona.errors import PomonaError

FIRST = ("model", "rating", "ci_low", "ci_high", "rank")


def made(n: int = 400, k: int = 4, seed: int = 1, **columns: Any) -> pa.Table:
    rng = np.random.default_rng(seed)
    a = rng.integers(0, k, n)
    b = (a + rng.integers(1, k, n)) % k
    d, u = (a - b) / 2.0, rng.random(n)
    tie = 1 / (np.exp(d / 2) + np.exp(-d / 2) + 1)
    win = np.exp(d / 2) * tie
    winner = np.where(u < win, "model_a", np.where(u < win + tie, "tie", "model_b"))
    table = pa.table({"model_a": a.astype(str), "model_b": b.astype(str), "winner": winner})
    for side in ("model_a", "model_b"):
        place = table.column_names.index(side)
        names = pa.array([f"m{one}" for one in table[side].to_pylist()])
        table = table.set_column(place, side, names)
    for name, column in columns.items():
        table = table.append_column(name, pa.array(column))
    return table


@pytest.fixture(scope="module")
def judged() -> pa.Table:
    return made(
        prompt=[f"p{row // 4}" for row in range(400)],
        voter=[f"v{row % 23}" for row in range(400)],
        language=["en" if row % 3 else "de" for row in range(400)],
    )


def test_rows_are_best_first_and_say_what_they_rest_on(
    judged: pa.Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv.write_csv(judged, file := tmp_path / "votes.csv")
    assert main(["arena", "fit", str(file), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert isinstance(rows, list) and [row["model"] for row in rows] == ["m3", "m2", "m1", "m0"]
    assert tuple(rows[0])[:5] == FIRST
    for row in rows:
        assert row["simultaneous_low"] < row["ci_low"] < row["rating"] < row["ci_high"]
        assert row["rank_low"] <= row["rank"] <= row["rank_high"]
        above = sum(other["ci_low"] > row["ci_high"] for other in rows)
        assert row["rank"] == 1 + above and row["converged"] is True and row["why"] is None
        assert row["votes"] == row["wins"] + row["losses"] + row["ties"]
    version = rows[0]["signature"].rpartition("|")[2]
    told = f"bt|ties:davidson|ci:cluster-item+voter|n:400|anchor:mean=1000|seed:0|{version}"
    assert rows[0]["signature"] == told and version.startswith("v:")
    assert np.mean([row["rating"] for row in rows]) == pytest.approx(1000)
    lead = rows[0]["rating"] - rows[1]["rating"]
    assert rows[0]["lead"] == pytest.approx(lead) and rows[-1]["lead"] is None
    result = fit(file)
    assert result.to_json() == rows
    difference = result.difference("m3", "m2")
    assert difference == pytest.approx((lead, rows[0]["lead_low"], rows[0]["lead_high"]))
    back = result.difference("m2", "m3")
    assert back == pytest.approx((-lead, -difference[2], -difference[1]))  # pyright: ignore
    win, lose, tie = result.probability("m3", "m2")
    assert win + lose + tie == pytest.approx(1)
    assert win / lose == pytest.approx(10 ** (lead / 400)) and tie > 0.1
    wins = result.wins()
    assert wins[3, 2] == pytest.approx(win) and wins[2, 3] == pytest.approx(lose)


def test_real_votes_are_as_unsure_as_their_items(llmfao: Votes) -> None:
    result = fit(llmfao, ties="half")
    told = {one.by: (one.clusters, round(one.median or 0, 2)) for one in result.clusterings}
    assert told == {"item": (2139, 1.24), "prompt": (13, 1.59), "voter": (124, 1.12)}
    assert result.cluster == "item+voter" and result.rows[0].model == "GPT 4"
    by_item = fit(llmfao, cluster="item").rows[0]
    alone = fit(llmfao, cluster="none").rows[0]
    assert by_item.std_error is not None and alone.std_error is not None
    assert by_item.std_error > 1.1 * alone.std_error and by_item.rating == alone.rating


def test_counts_name_no_clusters_and_say_so(leaderbot: Votes) -> None:
    result = fit(leaderbot, anchor="mixtral-8x7b-instruct-v0.1=1114", resamples=100)
    (note,) = result.notes
    assert note.startswith("no column says which votes hang together (item, prompt, voter)")
    assert "|ci:iid|n:1670250|anchor:mixtral-8x7b-instruct-v0.1=1114|boot:100|" in result.signature
    rows = {row.model: row for row in result.rows}
    assert rows["mixtral-8x7b-instruct-v0.1"].rating == pytest.approx(1114)
    first = result.rows[0]
    assert (first.model, first.rank, first.rank_high) == ("chatgpt-4o-latest", 1, 1)
    assert first.bootstrap_low is not None and first.ci_low is not None
    assert first.bootstrap_low == pytest.approx(first.ci_low, abs=2)
    np.testing.assert_allclose(result.stability.sum(1), 1)
    assert result.stability[0, 0] == 1
    moved = fit(leaderbot)
    assert [row.rank for row in moved.rows] == [row.rank for row in result.rows]


def test_categories_are_rated_each(judged: pa.Table) -> None:
    result = fit(judged, by="language")
    assert list(result.categories) == ["en", "de"]
    assert sum(one.n for one in result.categories.values()) == result.n
    rows = result.to_json()
    assert [row["category"] for row in rows] == [None] * 4 + ["en"] * 4 + ["de"] * 4
    assert "|category:de|" in rows[-1]["signature"]
    few = judged.set_column(5, "language", pa.array(["xx"] + ["en"] * 399))
    *_, note = fit(few, by="language").notes
    assert note == (
        'category "xx" is not rated: no two models have each won against the other, through others '
        "or by a tie"
    )


def test_style_stands_beside(judged: pa.Table) -> None:
    rng = np.random.default_rng(0)
    lengths = {f"length_{side}": rng.integers(1, 9, 400).tolist() for side in "ab"}
    table = judged
    for name, column in lengths.items():
        table = table.append_column(name, pa.array(column))
    result, plain = fit(table, style=["length"]), fit(judged)
    assert [row.rating for row in result.rows] == [row.rating for row in plain.rows]
    (effect,) = result.style
    assert effect.low is not None and effect.high is not None
    assert effect.name == "length" and effect.low < effect.points < effect.high
    for row in result.rows:
        assert row.style_low is not None and row.style_rating is not None
        assert row.style_low < row.style_rating and row.style_rank in (1, 2, 3, 4)
        assert abs(row.style_rating - (row.rating or 0)) < 20


def test_facts_of_models_are_columns(judged: pa.Table) -> None:
    facts = pa.table(
        {"model": ["m3", "m0"], "organization": ["Lab", None], "license": ["MIT", "x"]}
    )
    rows = {row.model: row for row in fit(judged, models=facts).rows}
    assert (rows["m3"].organisation, rows["m3"].licence) == ("Lab", "MIT")
    assert (rows["m0"].organisation, rows["m1"].licence) == (None, None)
    twice = pa.table({"model": ["m3", "m3"], "organisation": ["Lab", "Co"]})
    with pytest.raises(PomonaError, match='row 2: "m3" stands in row 1 too, and says other'):
        fit(judged, models=twice)
    with pytest.raises(PomonaError, match="needs the columns model, and organisation or licence"):
        fit(judged, models=pa.table({"model": ["m3"], "size": [7]}))


def test_a_model_without_a_win_has_no_number_and_the_others_have_theirs(judged: pa.Table) -> None:
    lost = {"model_a": ["m9"] * 3, "model_b": ["m0", "m1", "m2"], "winner": ["model_b"] * 3}
    won = {"model_a": ["m8"], "model_b": ["m3"], "winner": ["model_a"]}
    more = pa.concat_tables([judged, pa.table(lost), pa.table(won)], promote_options="default")
    result, plain = fit(more), fit(judged)
    assert [row.model for row in result.rows] == ["m3", "m2", "m1", "m0", "m8", "m9"]
    for row, same in zip(result.rows[:4], plain.rows, strict=True):
        assert (row.rating, row.ci_low, row.rank) == (same.rating, same.ci_low, same.rank)
    eight, nine = result.rows[4:]
    assert (nine.rating, nine.rank, nine.ci_low, nine.votes) == (None, None, None, 3)
    assert nine.why == "lost all 3 of its votes" and eight.why == "won all 1 of its votes"
    assert result.notes[0].startswith("2 models have no rating, since they won or lost all votes")
    with pytest.raises(PomonaError, match='no rating of "m9": it lost all 3 of its votes'):
        fit(more, anchor="m9=1000")


def rows_of(*rows: tuple[str, str, str]) -> pa.Table:
    return pa.Table.from_pylist(
        [dict(zip(("model_a", "model_b", "winner"), row, strict=True)) for row in rows]
    )


@pytest.mark.parametrize(
    ("table", "options", "text"),
    [
        (
            rows_of(("x", "y", "model_a")),
            {},
            "no two models have each won against the other, through others or by a tie — collect "
            "more votes: a strength without wins or losses is infinite",
        ),
        (rows_of(("x", "y", "tie")), {}, "all votes are ties — collect votes until some are none"),
        (rows_of(("x", "y", "tie")), {"ties": "drop"}, "all votes are ties — give another --ties"),
        (
            rows_of(("x", "y", "x"), ("y", "x", "x"), ("x", "y", "tie")),
            {},
            "too few to tell how often there is a tie — collect more votes, or give --ties half",
        ),
        (
            rows_of(("x", "y", "x"), ("x", "y", "y"), ("v", "w", "v"), ("v", "w", "w")),
            {},
            "2 groups of models have no votes between them: v, w; x, y — add votes between them",
        ),
        (
            made(),
            {"cluster": "topic"},
            'there is no column "topic" to cluster by — give --cluster none',
        ),
        (made(voter=["u"] * 400), {"cluster": "vote"}, 'cluster by — did you mean "voter"?'),
        (made(), {"anchor": "m1"}, 'anchor: "m1" is no anchor — give MODEL=POINTS'),
        (made(), {"anchor": "m7=1000"}, 'there is no rating of "m7" — known: m0, m1, m2, m3'),
        (made(), {"anchor": ("m1", np.nan)}, "nan is no rating"),
        (made(), {"level": 1.0}, "level: 1.0 is no share — give 0.95 or so"),
        (made(), {"resamples": 5}, "resamples: 5 is out of range — give 100 to 10,000, or 0"),
        (made(), {"ties": "david"}, 'ties: "david" is unknown — did you mean "davidson"?'),
        (made(), {"style": ["length", "length"]}, "style: a covariate stands twice"),
        (made(), {"style": ["length"]}, 'there is no column "length_a"'),
        (made(), {"by": "language"}, 'there is no column "language"'),
    ],
)
def test_what_cannot_be_rated_is_refused_by_name(
    table: pa.Table, options: dict[str, Any], text: str
) -> None:
    with pytest.raises(PomonaError) as raised:
        fit(table, **options)
    assert text in str(raised.value)


def test_few_votes_are_rated_and_said_to_be_few() -> None:
    table = rows_of(("x", "y", "x"), ("x", "y", "y"), ("x", "y", "x"))
    result = fit(table)
    assert [(row.model, row.rank) for row in result.rows] == [("x", 1), ("y", 1)]
    lead = result.rows[0].lead
    assert lead == pytest.approx(400 * np.log10(2)) and result.tie is None
    assert result.rows[0].ci_low is not None
    cycle = rows_of(("x", "y", "x"), ("y", "z", "y"), ("z", "x", "z"))
    assert [row.rating for row in fit(cycle).rows] == pytest.approx([1000] * 3)
    tied = rows_of(("x", "y", "tie"), ("x", "y", "x"))
    result = fit(tied, ties="half")
    assert (result.rows[0].rating or 0) - 1000 == pytest.approx(200 * np.log10(3))
    nothing = fit(rows_of(("x", "y", "x"), ("y", "x", "y")), ties="rao_kupper")
    assert nothing.tie is None


def test_few_voters_do_not_stand_for_others(judged: pa.Table) -> None:
    few = judged.set_column(4, "voter", pa.array([f"v{row % 5}" for row in range(400)]))
    result = fit(few)
    assert result.cluster == "item"
    assert result.notes[0].startswith("5 voters are too few to stand for others")
    alone = fit(few, cluster="voter")
    assert "5 voters are few" in alone.notes[0]


def test_what_lies_in_each_other_is_counted_once(judged: pa.Table) -> None:
    own = judged.set_column(4, "voter", pa.array([f"v{row // 20}" for row in range(400)]))
    result = fit(own)  # of each prompt all votes are one person's
    assert result.cluster == "voter" and result.to_json() == fit(own, cluster="voter").to_json()
    for asked, text in [
        ("item+voter", "each item lies in one voter, so that the two do not cross"),
        ("prompt+prompt", '"prompt" stands twice — give --cluster prompt'),
    ]:
        with pytest.raises(PomonaError) as raised:
            fit(own, cluster=asked)
        assert text in str(raised.value)
    with pytest.raises(PomonaError) as raised:
        fit(judged, cluster="item+voter+prompt")
    assert "give --cluster voter+prompt" in str(raised.value)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99999])
@pytest.mark.parametrize("k", [2, 3])
def test_no_interval_of_a_board_is_narrower_than_that_of_a_model(k: int, level: float) -> None:
    for row in fit(made(300, k), level=level).rows:
        assert row.simultaneous_low is not None and row.ci_low is not None
        assert row.simultaneous_low <= row.ci_low
        if k == 2:  # the two distances to the mean are one number
            near = 0.03 * (row.ci_high or 0) - 0.03 * row.ci_low
            assert level > 0.9999 or row.simultaneous_low == pytest.approx(row.ci_low, abs=near)


def test_an_anchor_however_far_off_leaves_the_ranks(judged: pa.Table) -> None:
    ranks = [(row.model, row.rank, row.ranks) for row in fit(judged).rows]
    far = fit(judged, anchor=("m0", 1e18)).rows
    assert [(row.model, row.rank, row.ranks) for row in far] == ranks


def test_the_page_holds_the_pictures_and_nothing_foreign(
    judged: pa.Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "<script>alert(1)</script>\x1b[31m"
    named = judged.set_column(
        0, "model_a", pa.array([evil if m == "m3" else m for m in judged["model_a"].to_pylist()])
    ).set_column(
        1, "model_b", pa.array([evil if m == "m3" else m for m in judged["model_b"].to_pylist()])
    )
    parquet.write_table(named, file := tmp_path / "votes.parquet")
    assert main(["arena", "fit", str(file), "--page", str(tmp_path / "page")]) == 0
    out = capsys.readouterr().out
    assert "\x1b[31m" not in out and "standard errors beside those of votes" in out
    page = (tmp_path / "page" / "index.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    for heading in ("Ratings", "Who beats whom", "How firm ranks are", "Table"):
        assert f"<h2>{heading}</h2>" in page
    before = page
    assert main(["arena", "fit", str(file), "--page", str(tmp_path)]) == 2
    assert "votes.parquet" in capsys.readouterr().err
    assert (tmp_path / "page" / "index.html").read_text() == before
