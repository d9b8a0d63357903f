"""What was answered before: looked up, shown, and weighed beside what a model draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pomona.answers import Account, Budget
from pomona.errors import PomonaError
from pomona.memory import FEATURES, MemorySelector, RowMemory, Selector, open_memory
from pomona.models import Draw, Model, Reply, Request, Spent
from pomona.records import read
from pomona.sample import answer_all, answer_now, parse_strategy
from pomona.sample.context import Chooser, Context, Neighbours, Selected
from pomona.tasks import pairwise

FORM = "<|{group}|>{source}<|to|>"
ROWS = {
    "source": ["Save page", "Save pages", "Log out"],
    "answer": ["Seite sichern", "Seiten sichern", "Abmelden <|im_end|>"],
    "group": ["de", "de", "de"],
}
MBR, GREEDY = parse_strategy("hedged3-mbr"), parse_strategy("greedy")


class Fake(Model):
    """Says the same whatever it is asked, and keeps that."""

    name = uri = identity = "fake"
    abilities = frozenset({"generate"})

    def __init__(self, *texts: str) -> None:
        self.texts, self.seen = texts or ("no",), list[Request]()

    async def reply(self, request: Request, samples: Sequence[Draw]) -> list[Reply]:
        self.seen.append(request)
        return [
            Reply(self.texts[at % len(self.texts)], "stop", Spent(1, 1), "fake", at, temperature)
            for at, temperature in samples
        ]


def memory(**more: Any) -> RowMemory:
    return open_memory(pa.table(ROWS), group="group", form=FORM, **more)


def ask(source: str) -> Request:
    return Request(prompt=f"<|de|>{source}<|to|>")


def test_what_is_near_is_looked_up_and_no_model_is_asked() -> None:
    model, lever = Fake(), Neighbours(memory(), lookup=0.9)
    assert isinstance(lever, Context)
    found = answer_now(ask("Save page"), model, MBR, context=[lever])
    assert (found.text, found.stopped_by, found.reply.model) == (
        "Seite sichern",
        "lookup",
        "memory",
    )
    assert model.seen == [] and found.spent.completion_tokens == 0
    assert found.spent.flops == found.notes["neighbours"]["flops"] > 0
    assert answer_now(ask("Save"), model, MBR, context=[lever]).text == "no"


def test_what_is_far_is_copied() -> None:
    lever, model = Neighbours(memory(), copy=0.3), Fake()
    found = answer_now(ask("Qwerty"), model, GREEDY, context=[lever])
    assert (found.text, found.stopped_by, model.seen) == ("Qwerty", "copy", [])
    assert answer_now(Request(prompt="Qwerty"), model, GREEDY, context=[lever]).text == "no"


def test_rows_are_shown_before_the_question_without_what_controls_a_model() -> None:
    model = Fake()
    lever = Neighbours(memory(example="{prompt}{answer}"), examples=2)
    answer_now(ask("Save the page"), model, GREEDY, context=[lever])
    assert model.seen[0].prompt == (
        "<|de|>Save pages<|to|>Seiten sichern<|de|>Save page<|to|>Seite sichern"
        "<|de|>Save the page<|to|>"
    )
    chat = Request(messages=({"role": "user", "content": "<|de|>Log out<|to|>"},))
    answer_now(chat, model, GREEDY, context=[Neighbours(memory(), examples=1)])
    assert model.seen[1].messages == (
        {"role": "user", "content": "<|de|>Log out<|to|>"},
        {"role": "assistant", "content": "Abmelden < |im_end|>"},
        *chat.messages,
    )


def test_answers_of_rows_are_candidates_and_evidence_by_their_weight() -> None:
    model = Fake("Seite retten", "Seite", "xx")
    account = Account(Budget())
    lever = Neighbours(memory(), candidates=2)
    found = answer_now(ask("Save the page"), model, MBR, context=[lever], budget=account)
    texts = [reply.text for reply in found.candidates]
    assert texts == [*model.texts, "Seite sichern", "Seiten sichern"]
    like = [row["similarity"] for row in found.notes["neighbours"]["rows"]]
    weights = np.array([1, 1, 1, *(max(0, 10 * (one - 0.1)) for one in like)])
    assert found.scores == pytest.approx(pairwise(texts, texts) @ weights / weights.sum(), abs=1e-6)
    assert found.text == texts[int(np.argmax(found.scores))] == "Seite sichern"
    assert found.notes["pool"]["size"] == 3 and account.spent.flops == found.spent.flops > 0
    with pytest.raises(PomonaError, match='"hedged3-vote": neighbours are candidates of mbr alone'):
        answer_now(ask("Save"), model, parse_strategy("hedged3-vote"), context=[lever])
    with pytest.raises(PomonaError, match="Neighbours: lookup is 2 — give a similarity from 0"):
        Neighbours(memory(), lookup=2)


def test_phrases_answer_without_a_model() -> None:
    model, lever = Fake(), Neighbours(memory(), lookup=0.99, phrases=True)
    found = answer_now(ask("Save page 2"), model, MBR, context=[lever])
    assert (found.text, found.stopped_by) == ("Seite sichern 2", "phrases")
    assert answer_now(ask("Save page"), model, MBR, context=[lever]).stopped_by == "lookup"
    assert model.seen == [] and lever.asks(ask("Save")) == (False, 0)
    other = Request(prompt="Save")  # has not the memory's form
    assert answer_now(other, model, MBR, context=[lever]).text == "no"
    assert lever.asks(other) == (True, 0)


class Scoring(Fake):
    """Gives shorter texts more."""

    abilities = frozenset({"generate", "score"})

    async def logprobs(
        self, request: Request, completions: Sequence[str], *, end: bool = False
    ) -> tuple[list[Any], Spent]:
        self.seen.append(request)
        assert end
        return [np.full(2, -float(len(text))) for text in completions], Spent(5, 7)


def chooser(tmp_path: Path, *, draws: bool, scored: bool) -> RowMemory:
    """A memory whose selector prefers what was drawn, and of that what the model prefers."""
    zeros = dict.fromkeys(FEATURES, 0.0)

    def weighing(**weights: float) -> Selector:
        columns = [tuple(each.values()) for each in (zeros, dict.fromkeys(FEATURES, 1.0))]
        return Selector(FEATURES, *columns, tuple((zeros | weights).values()))

    first = weighing(drawn=1.0, source=-5.0)
    last = weighing(drawn=9.0, logprob=1.0)
    kept = MemorySelector(last, first, 3) if scored else MemorySelector(first)
    replace(kept, draws=draws, neighbours=2).save(tmp_path / "selector.json")
    return memory(selector=tmp_path / "selector.json")


def test_a_selector_chooses_in_place_of_the_strategy(tmp_path: Path) -> None:
    lever, model = Selected(chooser(tmp_path, draws=True, scored=True)), Scoring("lang", "ab", "")
    assert isinstance(lever, Chooser) and not isinstance(Neighbours(memory()), Chooser)
    account = Account(Budget())
    found = answer_now(ask("Save the page"), model, MBR, context=[lever], budget=account)
    assert (found.text, found.chosen) == ("ab", 1)  # drawn, and the shorter of those
    assert found.notes["selection"] == {"chosen_by": "selector"}
    texts = [reply.text for reply in found.candidates]
    assert texts[:3] == ["lang", "ab", ""] and len(texts) == len(found.scores) == 4
    assert min(found.scores) == found.scores[2]  # what is empty is no candidate
    assert found.spent.completion_tokens == 3 + 7 and found.spent.flops > 0
    assert account.spent == replace(found.spent, seconds=account.spent.seconds)
    assert lever.asks(ask("Save")) == (True, 3)
    with pytest.raises(PomonaError, match="neighbours chooses, and so would vote — draw by hedged"):
        answer_now(ask("Save"), model, parse_strategy("hedged3-vote"), context=[lever])
    with pytest.raises(PomonaError, match='cannot "score"'):
        answer_now(ask("Save"), Fake(), MBR, context=[lever])
    spent = answer_now(ask("Save the page"), model, MBR, context=[lever], budget=Budget(tokens=20))
    assert "fallback" in spent.notes["selection"] and spent.text == "lang"
    with pytest.raises(PomonaError, match="a selector excludes phrases and neighbours"):
        Selected(lever.memory, phrases=True)
    with pytest.raises(PomonaError, match="there is no selector"):
        Selected(memory())


def test_a_selector_without_answers_of_a_model_draws_none(tmp_path: Path) -> None:
    lever, model = Selected(chooser(tmp_path, draws=False, scored=False)), Fake()
    found = answer_now(ask("Save pages"), model, MBR, context=[lever])
    assert (found.stopped_by, model.seen, found.reply.model) == ("selector", [], "memory")
    assert answer_now(Request(prompt="Save"), model, MBR, context=[lever]).text == "no"
    lever = Selected(chooser(tmp_path, draws=False, scored=True), lookup=0.99)
    scoring = Scoring()
    found = answer_now(ask("Save the page"), scoring, MBR, context=[lever])
    assert len(scoring.seen) == 1 and found.spent.completion_tokens == 7
    assert answer_now(ask("Save page"), scoring, MBR, context=[lever]).stopped_by == "lookup"
    rows = pa.table({"prompt": [ask("Save the page").prompt]})
    card = answer_all(
        rows, tmp_path / "a.jsonl", model=Scoring(), raw=True, memory=lever.memory, dry_run=True,
        max_tokens=10,
    )  # fmt: skip
    assert card.details["at_most"]["completion_tokens"] == 30  # of three that are scored


def test_a_table_is_answered_with_a_memory(tmp_path: Path) -> None:
    rows = pa.table({"lang": ["de", "de"], "english": ["Save page", "Qwerty"]})
    options: Any = {"model": Fake(), "prompt": "<|{lang}|>{english}<|to|>", "raw": True}
    card = answer_all(
        rows, tmp_path / "out.jsonl", strategy="greedy", memory=memory(), lookup=0.9, **options
    )
    assert read(tmp_path / "out.jsonl").to_table()["answer"].to_pylist() == ["Seite sichern", "no"]
    assert card.details["stopped_by"] == {"lookup": 1, "complete": 1}
    assert "memory:" in card.signature
    with pytest.raises(PomonaError, match="memory: the memory is not used — give a memory, and"):
        answer_all(rows, tmp_path / "a.jsonl", memory=memory(), **options)
    known = open_memory(str(tmp_path / "out.jsonl"), source="english", answer="answer")
    with pytest.raises(PomonaError, match="is an input, and the answers would replace it"):
        answer_all(rows, tmp_path / "out.jsonl", memory=known, lookup=0.5, **options)
    with pytest.raises(PomonaError, match="memory: there is no memory to use"):
        answer_all(rows, tmp_path / "a.jsonl", lookup=0.5, **options)
