"""Policies beside each other: values, differences, shares of the gain, and costs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pomona.errors import PomonaError
from pomona.synth.routing import (
    EVERY,
    AnswerColumns,
    Every,
    Fixed,
    Judging,
    Pool,
    Random,
    Router,
    Routes,
    Single,
    compare_policies,
    route,
)
from pomona.synth.teachers import Assignment, Candidate, Lesson
from pomona.tasks import metric

JUDGE = Judging("exact_match", single="l", resamples=1000)
TEACHERS = ("l", "m")


def pool_of(rows: int = 60) -> tuple[Pool, list[float]]:
    """`l` is right in every third row and `m` in the others, but for every tenth, where it wrote
    nothing; the reward knows it but for every fourth row.
    """
    candidates, rewards = [], []
    for at in range(rows):
        row = Assignment(
            f"r{at}", f"t{at // 2}", "en", ("af", "be")[at % 2], "right", f"t{at // 2}"
        )
        for teacher in TEACHERS:
            if teacher == "m" and at % 10 == 9:
                continue
            good = (at % 3 == 0) == (teacher == "l")
            text = "right" if good else "wrong"
            candidates.append(Candidate(row, Lesson(row.id, text, teacher, None)))
            rewards.append(float(good) if at % 4 else float("nan"))
    return Pool.of(candidates), rewards


@pytest.fixture(scope="module")
def routes() -> Routes:
    pool, rewards = pool_of()
    policies = [
        *map(Single, TEACHERS),
        Fixed({"af": ("m", "l"), "be": ("m",)}),
        Random(TEACHERS),
        Every(TEACHERS),
        Every(TEACHERS, "all"),
    ]
    tokens = np.where([one.lesson.teacher == "l" for one in pool.candidates], 3.0, 2.0)
    money = np.where([one.lesson.teacher == "l" for one in pool.candidates], np.nan, 1.0)
    groups = {"first": np.arange(60) < 30, "none": np.zeros(60, bool)}
    return compare_policies(
        pool, policies, rewards, judging=JUDGE, groups=groups,
        costs={"tokens": tokens, "money": money},
    )  # fmt: skip


def test_values_are_those_of_what_is_kept(routes: Routes) -> None:
    assert routes.groups == [EVERY, "af", "be", "first"]
    assert routes.of("l").value == pytest.approx(100 / 3)
    # m answers 54 rows; those without an answer count as an empty one.
    assert routes.of("m").value == pytest.approx(100 * 36 / 60)
    assert routes.of("m").costs.answered == 54
    # Fixed has l's answer where m wrote none, in af alone: all of these rows are be.
    assert routes.of("fixed", "be").costs.answered == 24
    # Of several that are kept the mean counts: one of two is right, or one alone is or is not.
    assert routes.of("all").value == pytest.approx(100 * (54 * 0.5 + 2) / 60)


def test_reward_keeps_the_best_it_knows(routes: Routes) -> None:
    pool, rewards = pool_of()
    kept = pool.route(Every(TEACHERS), rewards).kept
    for at, (one,) in enumerate(kept):
        if at % 4:
            texts = [c.lesson.text for c in pool.candidates if c.row.id == f"r{at}"]
            assert (pool.candidates[one].lesson.text == "right") == ("right" in texts)
        else:  # nothing is known: the first that was asked
            assert pool.candidates[one].lesson.teacher == "l"
    above = routes.of("reward").above
    assert set(above) == {"l", "fixed"}
    assert above["l"].low > 0
    assert above["l"].p_holm >= above["l"].p_value


def test_what_it_costs(routes: Routes) -> None:
    assert routes.of("reward").costs.generations == 114
    assert routes.of("reward").costs.sums == {"tokens": 3 * 60 + 2 * 54, "money": None}
    assert routes.of("m").costs.sums["money"] == 54
    assert routes.of("random").costs.generations == 60  # and never without an answer


def test_shares_of_the_gain(routes: Routes) -> None:
    told = routes.share("fixed")
    assert told is not None and told.share is not None
    gain = routes.of("reward").value - routes.of("l").value
    assert told.share == pytest.approx((routes.of("fixed").value - routes.of("l").value) / gain)
    assert told.low is not None and told.low <= told.share
    assert {one.policy for one in routes.shares} == {"fixed", "random"}
    read = json.loads(json.dumps(routes.to_json(), allow_nan=False))
    assert len(read["standings"]) == 6 * 4
    assert "share of the gain" in routes.cells()[0]


def test_a_best_of_several_draws_is_paid_for_each() -> None:
    row = Assignment("a", "t", "en", "af", "right")
    texts = ("wrong", "right", "wrong")
    pool = Pool.of(
        [Candidate(row, Lesson("a", text, "l", None, sample=at)) for at, text in enumerate(texts)]
    )
    told = pool.route(Single("l", samples=3), [0.0, 1.0, 0.5])
    assert (told.kept, told.paid) == (((1,),), ((0, 1, 2),))
    with pytest.raises(PomonaError, match='row "a": has two answers of l at draw 0'):
        Pool.of([pool.candidates[0]] * 2)


def test_mistakes_are_named() -> None:
    pool, rewards = pool_of(6)
    with pytest.raises(PomonaError, match='policy "fixed": is not compared'):
        compare_policies(pool, [Single("l"), Every(TEACHERS)], rewards, judging=JUDGE)
    with pytest.raises(PomonaError, match='policy "l": is there twice'):
        compare_policies(pool, [Single("l"), Single("l")], rewards, judging=JUDGE)
    with pytest.raises(PomonaError, match="12 answers"):
        pool.route(Single("l"), [1.0])
    bare = Pool.of([Candidate(Assignment("a", "t", "en", "af"), Lesson("a", "x", "l", None))])
    alone = Judging(metric("exact_match"), fixed=None, reward=None)
    with pytest.raises(PomonaError, match='row "a": has no reference'):
        compare_policies(bare, [Single("l")], [1.0], judging=alone)


def written(tmp_path: Path, name: str, first: int, rows: int = 30) -> Path:
    """Answers to rows whose sources begin at `first`, of which `m` has the right one where the
    text has "file".
    """
    path = tmp_path / name
    with path.open("w") as file:
        for at in range(first, first + rows):
            text = f"{'file' if at % 2 else 'page'} {at}"
            for teacher in TEACHERS:
                good = (at % 2 == 1) == (teacher == "m")
                row = {"id": f"r{at}", "text": text, "lang": "af", "teacher": teacher, "cost": 2}
                answer = "right" if good else "no"
                file.write(json.dumps({**row, "answer": answer, "reference": "right"}) + "\n")
    return path


def test_a_table_is_learned_from_and_others_are_compared(tmp_path: Path) -> None:
    valid, test = written(tmp_path, "valid.jsonl", 0), written(tmp_path, "test.jsonl", 100)
    told = route(
        valid, AnswerColumns(cost="cost"), test=test, learn=["reference"], judge="exact_match",
        out=tmp_path / "router", page=tmp_path / "page",
    )  # fmt: skip
    assert told.routes is not None
    assert told.routes.of("learned").value == 100
    assert told.routes.of("fixed").value == 50
    assert told.routes.of("all").costs.sums == {"cost": 120}
    assert Router.load(tmp_path / "router").signature == told.to_json()["router"]["signature"]
    assert "exact_match" in (tmp_path / "page/index.html").read_text()
    with pytest.raises(PomonaError, match='row "r0": its source is among the answers'):
        route(valid, test=valid)
    with pytest.raises(PomonaError, match=r"sample: there is no such column"):
        route(valid, AnswerColumns(sample="sample"))
    with pytest.raises(PomonaError, match="0 sources have answers that differ"):
        route(valid)  # two answers agree equally with each other
    with pytest.raises(PomonaError, match='"agreement=x" is no reward'):
        route(valid, reward=["agreement=x"])
