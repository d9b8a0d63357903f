"""`prioritize` and its replay, as functions and as commands."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.arena import Priorities, Replay, prioritize, replay
from pomona.arena.prioritizing.page import write_page
from pomona.cli import main
from pomona.errors import PomonaError

ADDED = ("rank", "p_tie", "p_a", "information", "propensity", "available", "random")


@pytest.fixture(scope="module")
def found(table: pa.Table, pilot: pa.Table) -> Priorities:
    return prioritize(table, pilot, seed=3)


def test_the_queue_has_what_was_not_voted_on_with_its_propensity(
    found: Priorities, table: pa.Table, pilot: pa.Table
) -> None:
    queue = found.queue
    assert found.pairs == 180
    assert len(queue) == 180 - len(pilot) // 3
    assert found.reached == "all"
    assert queue.column_names == [*table.column_names, *ADDED]
    assert queue["rank"].to_pylist() == list(range(1, len(queue) + 1))
    propensity = queue["propensity"].to_numpy()
    assert (propensity >= 0.1 / queue["available"].to_numpy() - 1e-12).all()
    assert not _keys(queue) & _keys(pilot)


def _keys(of: pa.Table) -> set[tuple[str, frozenset[str]]]:
    columns = (of[name].to_pylist() for name in ("prompt", "model_a", "model_b"))
    return {(prompt, frozenset((a, b))) for prompt, a, b in zip(*columns, strict=True)}


def test_likely_ties_come_last_where_asked(table: pa.Table, pilot: pa.Table) -> None:
    queue = prioritize(table, pilot, by="ties", seed=3).queue
    p_tie = queue["p_tie"].to_numpy()
    assert p_tie[:30].mean() < p_tie.mean() < p_tie[-30:].mean()
    odd = np.array([int(p.split()[1]) % 2 for p in queue["prompt"].to_pylist()], bool)
    assert p_tie[odd].min() > p_tie[~odd].max() - 0.2


def test_what_is_known_is_told(found: Priorities) -> None:
    assert found.at_random is not None and found.at_random > len(found.queue) * 0.9
    assert found.pilot is not None
    whole, prompts = found.pilot.fewest["all"], found.pilot.fewest["prompt"]
    assert whole is not None and prompts is not None and whole[0] < -0.4
    assert {one.name for one in found.measures} >= {"consensus", "chrf", "unigrams"}
    best = [one.model for one in found.ratings]
    assert best.index("fox") < best.index("ant")
    assert all(one.inverse is None for one in found.ratings)  # nothing was logged


def test_the_same_seed_gives_the_same_queue(table: pa.Table, pilot: pa.Table) -> None:
    one, other = (prioritize(table, pilot, budget=20, seed=3) for _ in range(2))
    assert one.queue.equals(other.queue)
    assert one.signature == other.signature
    assert len(one.queue) == 20 and one.reached == "budget"


def test_logged_votes_are_rated_by_inverse_propensity_too(
    found: Priorities, table: pa.Table, pilot: pa.Table
) -> None:
    first = found.queue.slice(0, 60)
    known = pilot
    for name in ("rank", "propensity", "available"):
        known = known.append_column(name, pa.nulls(len(pilot), first[name].type))
    votes = pa.concat_tables([known, first.select(known.column_names)])
    again = prioritize(table, votes, budget=5)
    rows = {one.model: one for one in again.ratings}
    assert rows["fox"].inverse is not None and rows["ant"].inverse is not None
    assert rows["fox"].inverse > rows["ant"].inverse
    assert rows["fox"].inverse_low < rows["fox"].inverse < rows["fox"].inverse_high  # type: ignore[operator]
    assert any("by inverse propensity" in note for note in again.notes)


def test_without_votes_the_queue_is_an_even_pilot(table: pa.Table) -> None:
    found = prioritize(table, budget=30)
    queue = found.queue
    assert found.by == "random"
    assert queue["p_tie"].null_count == queue["information"].null_count == 30
    np.testing.assert_allclose(queue["propensity"].to_numpy(), 1 / queue["available"].to_numpy())
    assert found.ratings == [] and found.pilot is None
    assert any("for a pilot" in note for note in found.notes)


def test_too_few_ties_teach_nothing(table: pa.Table, pilot: pa.Table) -> None:
    decided = pilot.filter(pa.array([one != "tie" for one in pilot["winner"].to_pylist()]))
    found = prioritize(table, decided, by="ties", budget=10)
    assert found.by == "random" and found.pilot is None
    assert any("0 ties are too few" in note for note in found.notes)
    queue = prioritize(table, decided, budget=10).queue  # which needs no ties
    even = 1 / queue["available"].to_numpy()
    assert np.ptp(queue["propensity"].to_numpy() / even) > 0.5


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"budget": 0}, "budget is 0 — give 1 or more"),
        ({"random": 0.0}, "random is 0.0 — give above 0"),
        ({"order": 1.0}, "order is 1.0 — give between 0.5 and 1"),
        ({"system": ["ant=ui-xs"]}, "two models are compared, and one is named"),
        ({"system": ["owl=ui-xs"]}, '"owl" has no answer in the pairs'),
    ],
)
def test_wrong_numbers_and_names_are_refused(
    table: pa.Table, pilot: pa.Table, more: dict, text: str
) -> None:
    with pytest.raises(PomonaError, match=text):
        prioritize(table, pilot, **more)


def test_a_goal_without_votes_is_refused(table: pa.Table) -> None:
    with pytest.raises(PomonaError, match="nothing is known before there are votes"):
        prioritize(table, resolution=20)


def test_a_replay_says_what_it_would_have_saved(table: pa.Table) -> None:
    found = replay(table, pilots=2, share=0.5)
    assert isinstance(found, Replay)
    assert (found.votes, found.pairs) == (540, 180)
    of = {one.known: one for one in found.ties}
    assert of["all"].mean < -0.4 and of["prompt"].mean < -0.4
    assert of["prompt"].against_prompt is None
    base = next(one for one in found.rankings if one.chosen == "random" and one.rated == "votes")
    assert base.part == pytest.approx(1, abs=0.5)
    assert len(found.rankings) == 8
    assert found.to_json()["rankings"][0]["chosen"] == "random"
    with pytest.raises(PomonaError, match="too few for a replay"):
        replay(table.slice(0, 60))
    with pytest.raises(PomonaError, match="needs the prompt and both answers"):
        replay(table.drop_columns(["completion_a"]))


def test_commands_write_show_and_refuse(
    table: pa.Table, pilot: pa.Table, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(table, tmp_path / "pairs.parquet")
    pq.write_table(pilot, tmp_path / "votes.parquet")
    inputs = [str(tmp_path / "pairs.parquet"), str(tmp_path / "votes.parquet")]
    out = tmp_path / "queue.jsonl"
    line = ["arena", "prioritize", *inputs, "--out", str(out), "--budget", "15"]
    assert main(line) == 0
    text = capsys.readouterr().out
    assert "15 votes on 180 pairs" in text and "consensus" in text and "arena-prioritize|" in text
    rows = [json.loads(row) for row in out.read_text().splitlines()]
    assert [row["rank"] for row in rows] == list(range(1, 16))
    assert main([*line, "--format", "json"]) == 0  # our own is replaced
    told = json.loads(capsys.readouterr().out)
    assert told["out"] == str(out) and told["queue"][0]["rank"] == 1
    out.write_text("mine\n")
    assert main(line) == 2
    assert "is not what Pomona wrote there" in capsys.readouterr().err
    assert out.read_text() == "mine\n"


def test_the_page_shows_what_is_known(found: Priorities, tmp_path: Path) -> None:
    text = write_page(found, tmp_path).read_text()
    for heading in ("The first pairs", "P(tie), said and come", "Measures, both signs"):
        assert heading in text
    assert "<script" not in text


def test_few_votes_of_any_kind_give_a_queue_and_no_ratings_without_an_end(table: pa.Table) -> None:
    pairs = table.select(["prompt", "model_a", "model_b", "completion_a", "completion_b"])
    names = list(zip(pairs["model_a"].to_pylist(), pairs["model_b"].to_pylist(), strict=True))
    same = [row for row, two in enumerate(names) if {*two} == {"ant", "bee"}]
    better = ["model_a" if names[row][0] == "ant" else "model_b" for row in same]
    for winners, rows in [
        (["model_a"], [0]),
        (["tie"], [0]),
        (["tie"] * 60, list(range(60))),
        (better[:6] + ["tie"] * 3, same[:9]),
    ]:
        votes = pairs.select(["prompt", "model_a", "model_b"]).take(pa.array(rows))
        found = prioritize(pairs, votes.append_column("winner", pa.array(winners)), budget=3)
        assert len(found.queue) == 3
        assert all(one.rating is None for one in found.ratings)
        assert np.isfinite([one.believed for one in found.ratings]).all()
        assert any(note.startswith("no plain ratings yet: ") for note in found.notes)


def test_nothing_is_written_beside_an_input_or_scored_for_no_file(
    table: pa.Table, tmp_path: Path
) -> None:
    pq.write_table(table, file := tmp_path / "pairs.parquet")
    with pytest.raises(PomonaError) as raised:
        prioritize(file, page=tmp_path)
    assert "which is --page: nothing else may be there" in str(raised.value)
    with pytest.raises(PomonaError) as raised:
        replay(file, page=tmp_path)
    assert "which is --page: nothing else may be there" in str(raised.value)
    with pytest.raises(PomonaError) as raised:
        prioritize(file, out=tmp_path / "queue.xlsx", scorer="hf:nowhere")
    assert "not a table Pomona can name the format of" in str(raised.value)
    assert [one.name for one in tmp_path.iterdir()] == ["pairs.parquet"]
