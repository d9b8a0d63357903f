"""What an audit says of votes whose faults are known, and of what votes cannot tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pomona.arena import Votes, audit
from pomona.cli import main
from pomona.errors import PomonaError

UNKNOWN = (
    "position", "length", "repetition", "drift", "voters", "providers", "twins", "best_of_n",
    "retired",
)  # fmt: skip
Board = Callable[..., Votes]


def test_what_counts_do_not_tell_is_unknown_with_the_reason(leaderbot: Votes) -> None:
    some = [place for place, name in enumerate(leaderbot.models) if name.startswith("claude")]
    few = leaderbot.take(np.isin(leaderbot.a, some) & np.isin(leaderbot.b, some))
    told = audit(few).to_json()
    assert {name: told[name] for name in UNKNOWN} == dict.fromkeys(UNKNOWN)
    assert told["unknown"] == {
        "position": "no pair of models is shown in both orders, so that side and model are one",
        "length": "the votes name no completions",
        "repetition": "the votes name no voters",
        "drift": "the votes name no times",
        "voters": "the votes name no voters",
        "providers": "no table of models names organisations, and the votes do not",
        "twins": "no twins are given, and no two names are the same but for how they are written",
        "best_of_n": "no table of models names families, organisations or numbers of variants",
        "retired": "no table of models says which are retired, and the votes name no times",
    }
    assert told["alarms"] == [] and told["fragility"]["first_place"]["votes"] > 0
    assert told["signature"].startswith("arena-audit|votes:") and told["seed"] == 0
    json.dumps(told, allow_nan=False)


def test_llmfao(llmfao_written: pa.Table) -> None:
    told = audit(llmfao_written, models=pa.table({"model": ["GPT 4"], "organization": ["OpenAI"]}))
    assert told.alarms == ["position", "length", "voters"]
    voters = told.voters
    assert voters is not None and voters.against == "the other voters on the same items"
    # Four people whose votes agree with others' no more than coins would: 1,190 of 8,931 votes
    assert [one.voter for one in voters.voters[:4]] == ["15", "20", "11", "70"]
    assert all((one.q_value or 1) < 1e-6 for one in voters.voters[:4])
    assert voters.moved is not None and voters.moved.model == "GPT 4" and voters.moved.elo > 100
    assert (
        told.best_of_n is None and told.unknown["providers"] == "all models are of one organisation"
    )


def test_the_left_bias_of_a_judge_is_flagged(llmfao_folder: Path) -> None:
    found = audit(llmfao_folder / "gpt3-crowd-comparisons.csv").position
    assert found is not None and found.alarm and found.p_value < 1e-10
    assert found.seen[:2] == pytest.approx((0.632, 0.277), abs=0.001)
    assert found.first == pytest.approx(0.66, abs=0.01)
    # GPT-4's bias is to the other side
    found = audit(llmfao_folder / "gpt4-crowd-comparisons.csv").position
    assert found is not None and found.alarm and found.high < 0


@pytest.mark.parametrize(
    ("name", "push"),
    [
        ("position", lambda a, **_: np.full(len(a), 0.5)),
        (
            "drift",
            lambda a, b, time, **_: 4.0 * (time / len(a) - 0.5) * ((a == 2) * 1.0 - (b == 2)),
        ),
        ("voters", lambda a, b, voter, **_: np.where(voter == 3, 3, 0) * np.sign(a - b)),
    ],
)
def test_an_effect_is_found_and_the_others_are_not(board: Board, name: str, push: Any) -> None:
    assert audit(board(seed=1)).alarms == []
    assert audit(board(push, seed=1)).alarms == [name]


def test_length(board: Board) -> None:
    ratio = np.random.default_rng(5).normal(0, 1, 1200)
    votes = board(lambda **_: 0.4 * ratio)
    columns = votes.columns.append_column("length_a", pa.array(100 * 2.0**ratio))
    columns = columns.append_column("length_b", pa.array(np.full(1200, 100)))
    found = audit(replace(votes, columns=columns)).length
    assert found is not None and found.alarm and found.low < 0.4 * 400 / np.log(10) < found.high
    assert found.first > found.second


def test_a_voter_who_repeats_the_side(board: Board) -> None:
    votes = board(seed=2)
    voter, time = (votes.columns[one].to_numpy() for one in ("voter", "time"))
    outcome, order = votes.outcome.copy(), np.lexsort((time, voter))
    again = np.random.default_rng(0).random(len(order)) < 0.15
    for before, row in pairwise(order):
        if again[row] and voter[row] == voter[before]:
            outcome[row] = outcome[before]
    found = audit(replace(votes, outcome=outcome)).repetition
    assert found is not None and found.alarm and found.low > 0
    # One who always takes the left does not depend on what was before
    always = np.where(voter == 0, 0, votes.outcome).astype(np.int8)
    found = audit(replace(votes, outcome=always)).repetition
    assert found is not None and not found.alarm


MODELS = {
    "model": [f"m{one}" for one in range(12)],
    "organisation": ["a"] * 4 + ["b"] * 4 + ["c"] * 4,
    "checkpoint": ["one", "one", *[None] * 10],
    "family": [None] * 4 + ["f"] * 4 + [None] * 4,
    "submitted": [None] * 11 + [27],
    "retired": ["no"] * 10 + ["2024-05-01", "true"],
}


def test_models(board: Board) -> None:
    votes = board(models=12, items=500, seed=4)
    told = audit(votes, models=pa.table(MODELS))
    assert told.twins is not None and [one.found for one in told.twins.twins] == ["given"]
    assert told.best_of_n is not None and told.best_of_n.by == "family"
    best = {one.family: one for one in told.best_of_n.winners}
    f, alone = best["f"], best["m11"]
    assert f.n == f.rated == 4 and not f.bound and f.bias > 0
    assert f.corrected == pytest.approx(f.rating - f.bias)
    assert f.corrected_low is not None and f.corrected_low < f.low
    # Of 27 equally good ones the best is overrated by 2.00 standard errors
    assert alone.bound and alone.corrected is None and alone.n == 27
    assert alone.bias == pytest.approx(2.0 * (alone.high - alone.rating) / 1.96, rel=0.01)
    assert told.retired is not None and told.retired.retired == ["m10", "m11"]
    assert len(told.retired.shifted) == 10 and not told.retired.alarm
    assert told.retired.graph is not None and told.retired.graph.models == 10
    assert told.providers is not None and len(told.providers.providers) == 3
    assert sum(one.share_shown for one in told.providers.providers) == pytest.approx(1)
    assert told.providers.rate.endswith("between its first and its last")


def test_twins_differ_and_are_found_by_name(board: Board) -> None:
    votes = board(lambda a, b, **_: 1.5 * ((a == 1) * 1.0 - (b == 1)), seed=3)
    names = ("org/Model-8B", "model 8b-fp8", *votes.models[2:])
    told = audit(replace(votes, models=names)).twins
    assert told is not None and told.alarm
    (one,) = told.twins
    assert one.found == "by name" and {one.first, one.second} == set(names[:2])
    given = audit(votes, twins_given=["m2=m3"]).twins
    assert given is not None and not given.alarm and given.twins[0].found == "given"


def test_a_provider_that_is_shown_more() -> None:
    rng = np.random.default_rng(0)
    weight = np.where(np.arange(24) < 6, 4.0, 1.0) * np.exp(rng.normal(0, 0.3, 24))
    a, b = (rng.choice(24, 4000, p=weight / weight.sum()) for _ in range(2))
    rows = np.flatnonzero(a != b)
    table = pa.table(
        {
            "model_a": [f"m{one}" for one in a[rows]],
            "model_b": [f"m{one}" for one in b[rows]],
            "winner": rng.choice(["model_a", "model_b", "tie"], len(rows)),
            "organization_a": [f"org {one // 6}" for one in a[rows]],
            "organization_b": [f"org {one // 6}" for one in b[rows]],
        }
    )
    found = audit(table).providers
    assert found is not None and found.alarm and found.rate == "votes of a model"
    assert found.providers[0].provider == "org 0" and found.providers[0].ratio > 1.5
    assert found.providers[0].p_holm <= 0.05 < found.providers[1].p_holm


def test_without_retired_models_the_board_falls_apart(board: Board) -> None:
    votes = board(models=5, seed=6)
    hub = votes.take((votes.a == 0) | (votes.b == 0))
    retired = pa.table({"model": ["m0"], "retired": [True]})
    told = audit(hub, models=retired)
    assert told.graph.cuts == ["m0"]
    assert told.retired is not None and told.retired.reason == "no votes are left without them"
    assert audit(votes).graph.cuts == []
    # m0 alone has met both m1 and m2, and m3 and m4
    side = np.array([0, 1, 1, 2, 2])
    bridged = votes.take((side[votes.a] == side[votes.b]) | (side[votes.a] * side[votes.b] == 0))
    told = audit(bridged, models=retired).retired
    assert told is not None and told.alarm and told.parts == 2
    assert told.reason == "without them 2 groups of models have no votes between them"


def _refused(argument: Any, **given: Any) -> str:
    with pytest.raises(PomonaError) as caught:
        audit(argument, **given)
    return str(caught.value)


def test_bad_input_is_refused_by_name(board: Board, tmp_path: Path) -> None:
    votes = board()
    assert 'there is no column "model"' in _refused(votes, models=pa.table({"x": ["m0"]}))
    twice = pa.table({"model": ["m0", "m0"], "family": ["f", "g"]})
    assert 'row 2: "m0" stands in row 1 too' in _refused(votes, models=twice)
    assert 'none of its models has votes, such as "m0"' in _refused(
        votes, models=pa.table({"model": ["other"]})
    )
    number = pa.table({"model": ["m0"], "submitted": ["many"]})
    assert 'row 1: "submitted" is many' in _refused(votes, models=number)
    assert '"m0=m9" names no two models' in _refused(votes, twins_given=["m0=m9"])
    lost = pa.table({"model_a": ["x"], "model_b": ["y"], "winner": ["model_a"]})
    assert "no two models have each won" in _refused(lost)
    apart = pa.table({"model_a": ["x", "z"], "model_b": ["y", "w"], "winner": ["tie", "tie"]})
    assert "2 groups of models have no votes between them" in _refused(apart)
    assert "is below 0" in _refused(votes, seed=-1)


def test_the_command(board: Board, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    votes = board()
    words = ("model_a", "model_b", "tie")
    rows = zip(votes.a, votes.b, votes.outcome, votes.columns["voter"].to_pylist(), strict=True)
    lines = [f"m{a},m{b},{words[one]},{who}" for a, b, one, who in rows]
    (tmp_path / "votes.csv").write_text("model_a,model_b,winner,voter\n" + "\n".join(lines))
    (tmp_path / "models.csv").write_text("model,organization\nm0,x\nm1,x\nm2,y\nm3,y\nm4,y\nm5,y\n")
    line = ["arena", "audit", str(tmp_path / "votes.csv"), "--models", str(tmp_path / "models.csv")]
    assert main([*line, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert next(iter(told)) == "fragility" and len(told["fragility"]["neighbours"]) == 5
    first = told["fragility"]["first_place"]
    assert (first["model"], first["rank"], first["confirmed"]) == ("m0", 1, True)
    assert main([*line, "--places", "3", "--format", "json"]) == 0
    fewer = json.loads(capsys.readouterr().out)["fragility"]
    assert fewer["neighbours"] == told["fragility"]["neighbours"][:2]
    assert main([*line, "--places", "1"]) == 2
    assert "1 has no neighbours" in capsys.readouterr().err
    assert main([*line, "--page", str(tmp_path / "page")]) == 0
    said = capsys.readouterr().out
    assert "m0 is first; without " in said and "the side an answer is on" in said
    page = (tmp_path / "page" / "index.html").read_text()
    assert "What changes the board" in page and "<script>" not in page
    assert main(["arena", "audit", str(tmp_path / "models.csv")]) == 2
    assert 'there is no column "model_a"' in capsys.readouterr().err


def test_a_page_of_votes_that_are_a_json_list(tmp_path: Path) -> None:
    rows = [{"model_a": "x", "model_b": "y", "winner": w} for w in ("model_a", "model_b") * 4]
    (file := tmp_path / "votes.json").write_text(json.dumps(rows))
    audit(file, page=tmp_path / "page")
    assert (tmp_path / "page" / "index.html").exists()
