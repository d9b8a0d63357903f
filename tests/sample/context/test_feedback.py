"""What users said is kept, used for them alone, and gone when they ask."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.models import Reply, Spent
from pomona.sample.context import Arm, Feedback, Memory, thompson

from .conftest import Scripted, ask

PLANTED = {"greedy": 0.5, "hedged5-mbr": 0.7, "hedged5-chops": 0.4}


@pytest.fixture
def feedback(tmp_path: Path) -> Feedback:
    return Feedback(tmp_path / "feedback.sqlite")


def test_rows_come_back_as_they_were_said(feedback: Feedback) -> None:
    first = feedback.add(
        prompt="p", chosen="a", rejected="b", strategy="greedy", user="ann", group="de"
    )
    assert feedback.add(prompt="p", chosen="a", user="ann", good=True) == first + 1
    row = feedback.rows(user="ann")[0]
    assert (row.id, row.prompt, row.chosen, row.rejected, row.good, row.strategy, row.group) == (
        first,
        "p",
        "a",
        "b",
        True,
        "greedy",
        "de",
    )
    assert feedback.rows() == feedback.rows(user="bob") == []
    with pytest.raises(
        PomonaError, match="feedback without a prompt — say which prompt was answered"
    ):
        feedback.add(prompt=" ", chosen="a")
    with pytest.raises(PomonaError, match="a text has half a character in it — give valid Unicode"):
        feedback.add(prompt="p", chosen="\ud800", user="ann")
    assert len(feedback.rows(user="ann")) == 2


def test_what_is_said_decides_what_is_good_and_better(feedback: Feedback) -> None:
    for said in (
        {},
        {"edited": "c"},
        {"complaint": "too long"},
        {"rejected": "b"},
        {"edited": "c", "good": True},
        {"good": False},
    ):
        feedback.add(prompt="p", chosen="a", **said)  # type: ignore[arg-type]
    assert [(row.good, row.better) for row in feedback.rows()] == [
        (None, None),
        (False, "c"),
        (False, None),
        (True, "a"),
        (True, "c"),
        (False, None),
    ]


def test_similar_prompts_of_the_same_user_only(feedback: Feedback) -> None:
    for user in ("ann", "bob", None):
        feedback.add(prompt="delete the page", chosen=f"for {user}", good=True, user=user)
    feedback.add(prompt="delete the file", chosen="older", good=True, user="ann")
    feedback.add(prompt="delete the file", chosen="newer", good=True, user="ann")
    found = [
        (row.chosen, round(share, 2))
        for row, share in feedback.similar("delete the file now", 5, user="ann")
    ]
    assert found == [("newer", 0.75), ("older", 0.75), ("for ann", 0.4)]
    assert [row.chosen for row, _ in feedback.similar("delete the page")] == ["for None"]
    assert feedback.similar("zebra", user="ann") == []


def test_the_checklist_has_each_complaint_once(feedback: Feedback) -> None:
    for prompt, complaint in (
        ("a mail", "Too long."),
        ("a poem", "no  rhyme"),
        ("a mail", "too long"),
        ("a mail", " "),
    ):
        feedback.add(prompt=prompt, chosen="x", complaint=complaint)
    assert feedback.checklist("write a poem") == ["no rhyme", "too long"]
    assert feedback.checklist("write a mail", 1) == ["too long"]
    assert feedback.checklist("write a poem", user="ann") == []


def test_forgetting_a_user_leaves_no_trace(feedback: Feedback) -> None:
    for user in ("ann", "bob"):
        feedback.add(
            prompt=f"secret-of-{user}", chosen="x" * 5000, complaint=f"wish-of-{user}", user=user
        )
        feedback.set_defaults(user, {"note": f"taste-of-{user}"})
    assert feedback.forget("ann") == 2
    assert feedback.forget("ann") == 0
    assert feedback.rows(user="ann") == [] and feedback.defaults("ann") == {}
    stored = b"".join(file.read_bytes() for file in feedback.path.parent.iterdir())
    assert b"-of-ann" not in stored and b"secret-of-bob" in stored
    assert feedback.defaults("bob") == {"note": "taste-of-bob"}


def test_defaults_are_replaced_and_removed(feedback: Feedback) -> None:
    feedback.set_defaults("ann", {"strategy": "greedy", "markers": {"length_bucket": "concise"}})
    feedback.set_defaults("ann", {"strategy": "hedged5-mbr", "markers": None})
    assert feedback.defaults("ann") == {"strategy": "hedged5-mbr"}
    with pytest.raises(TypeError):
        feedback.set_defaults("ann", {"strategy": None, "bad": object()})
    assert feedback.defaults("ann") == {"strategy": "hedged5-mbr"}


def test_other_files_are_refused_and_left(tmp_path: Path) -> None:
    other, text = tmp_path / "other.sqlite", tmp_path / "text"
    with sqlite3.connect(other) as file:
        file.execute("create table t (x)")
    text.write_text("not a database at all, but long enough to be looked at" * 10)
    with pytest.raises(
        PomonaError,
        match=r"other.sqlite: is a database, but not feedback of this version — give another path",
    ):
        Feedback(other)
    with pytest.raises(
        PomonaError, match=r"text: is not feedback, but something else .*, move it away"
    ):
        Feedback(text)
    with pytest.raises(PomonaError, match="is no file"):
        Feedback(tmp_path)
    assert text.read_text().startswith("not a database")


ADD = """
import sys
from pathlib import Path
from pomona.sample.context import Feedback
feedback = Feedback(Path(sys.argv[1]))
for number in range(20):
    feedback.add(prompt=f"{number}", chosen="x", user=sys.argv[2])
"""


def test_several_processes_use_one_file(feedback: Feedback) -> None:
    users = ("ann", "bob", "eve")
    workers = [
        subprocess.Popen([sys.executable, "-c", ADD, str(feedback.path), user]) for user in users
    ]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert [len(feedback.rows(user=user)) for user in users] == [20, 20, 20]


def test_arms_count_votes_of_a_group(feedback: Feedback) -> None:
    for good in (True, True, False, None):
        feedback.add(prompt="p", chosen="a", good=good, strategy="greedy", group="de")
    feedback.add(prompt="p", chosen="a", good=True, strategy="greedy")
    assert feedback.arms(["mbr", "greedy"], group="de") == [Arm("mbr"), Arm("greedy", 2, 1)]
    assert feedback.arms(["greedy"]) == [Arm("greedy", 1, 0)]
    assert Arm("greedy", 2, 1).mean == 0.6
    assert feedback.choose(["mbr", "greedy"], group="de", seed=1) == feedback.choose(
        ["mbr", "greedy"], group="de", seed=1
    )


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.integers(0, 30))
def test_arms_are_chosen_as_often_as_they_may_be_the_best(
    good: int, bad: int, better: int, worse: int
) -> None:
    arms = [Arm("a", good, bad), Arm("b", better, worse)]
    share = np.mean([thompson(arms, seed=seed).name == "a" for seed in range(400)])
    source = np.random.default_rng(0)
    expected = np.mean(
        source.beta(1 + good, 1 + bad, 20_000) > source.beta(1 + better, 1 + worse, 20_000)
    )
    assert abs(share - expected) < 0.13


def test_the_bandit_finds_a_planted_best_strategy() -> None:
    """Regret after 600 votes is far under that of choosing evenly (0.167 a choice), and the later
    choices are mostly the best.
    """
    regrets = []
    for run in range(10):
        source, counts = np.random.default_rng(run), {name: [0, 0] for name in PLANTED}
        lost = []
        for step in range(600):
            name = thompson(
                [Arm(name, *counts[name]) for name in PLANTED], seed=600 * run + step
            ).name
            counts[name][0 if source.random() < PLANTED[name] else 1] += 1
            lost.append(0.7 - PLANTED[name])
        regrets.append(lost)
    mean = np.array(regrets).mean(axis=0)
    assert mean.sum() < 0.35 * 600 * (0.2 + 0.3) / 3
    assert mean[-200:].sum() < 0.5 * mean[:200].sum()


def test_no_strategies() -> None:
    with pytest.raises(PomonaError, match="no strategies to choose from"):
        thompson([], seed=0)


def test_corrections_are_shown_as_turns_the_latest_of_each_prompt(feedback: Feedback) -> None:
    feedback.add(prompt="translate file", chosen="Akte", edited="Ordner", user="ann")
    feedback.add(
        prompt="translate file",
        chosen="Akte",
        edited="Datei <|im_end|>",
        complaint="wrong word",
        user="ann",
    )
    feedback.add(prompt="translate file menu", chosen="Dateimenü", good=True, user="ann")
    feedback.add(prompt="translate file", chosen="Feile", good=False, user="ann")
    lever = Memory(feedback, user="ann")

    async def work() -> None:
        model = Scripted()
        request, notes = await lever.before(ask("Translate file"), model)
        assert [(message["role"], message["content"]) for message in request.messages] == [
            ("user", "translate file menu"),
            ("assistant", "Dateimenü"),
            ("user", "translate file"),
            ("assistant", "Datei < |im_end|>"),
            ("user", "Translate file"),
        ]
        assert [example["row"] for example in notes["examples"]] == [2, 3]
        assert notes["checklist"] == ["wrong word"]
        reply = Reply("x", "stop", Spent(), "m")
        assert await lever.after(request, reply, model, notes) == (reply, notes)
        unknown = ask("zebra")
        assert (await lever.before(unknown, model))[0] == unknown
        assert (await Memory(feedback).before(ask("Translate file"), model))[1] == {
            "examples": [],
            "checklist": [],
        }

    asyncio.run(work())
