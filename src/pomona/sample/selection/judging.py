"""What a judge decides: which answer meets a checklist best (CHOPS), and how far two answers say
the same. What it reads is kept apart from what it is told.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pomona.answers import conversation, fenced, text_of
from pomona.models import Reply, Request
from pomona.sample.selection.choice import Choice, SelectionContext, highest

_GRADES = ("1", "2", "3", "4", "5")
FALLBACK = (
    "does what the request asks",
    "is correct",
    "is complete",
    "is clear and well written",
)
_ITEM = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.):])\s*(?:\[[ xX]?\]\s*)?(.+)$")
_LONGEST = 300
_TAGS = ("request", "answer-")  # an answer plays neither another one nor a new request
_PICK = 8  # tokens of what picks an option


async def chops(context: SelectionContext, pool: Sequence[Reply]) -> Choice:
    """The score is 1 for the chosen text and 0 for the others. Equal texts are shown once, in an
    order shuffled by seed and prompt.

    The notes have the checklist, the order shown (candidate indices) and the seed. A judge that
    names none leaves the first candidate.
    """
    texts = [text_of(reply) for reply in pool]
    shown = [texts.index(text) for text in dict.fromkeys(texts)]
    if len(shown) == 1:
        notes = {"checklist": [], "order": shown, "seed": context.seed}
        return Choice(0, (1.0,) * len(pool), notes)
    items = await checklist(context)
    context.chance("order").shuffle(shown)
    picked = await pick(context, _question(context, items, [texts[at] for at in shown]))
    winner = texts[shown[picked] if picked is not None else 0]
    scores = tuple(float(text == winner) for text in texts)
    notes = {"checklist": items, "order": shown, "seed": context.seed}
    if picked is None:
        notes["fallback"] = "first: the judge named no answer"
    return Choice(highest(scores), scores, notes)


async def checklist(context: SelectionContext) -> list[str]:
    """4 to 8 things a good answer to the prompt does: those of feedback first, then the
    judge's, then general ones until there are 4.
    """
    wanted = context.strategy.items
    text = (
        f"A request follows.\n\n{fenced('request', conversation(context.request))}\n\nWrite a "
        f"checklist of {wanted} short, different things "
        "that a good answer to this request does. One item a line, each starting with '- '. Do "
        "not answer the request."
    )
    reply = await context.ask(_asking(context, text, 40 * wanted))
    matches = filter(None, map(_ITEM.match, reply.text.splitlines()))
    written = [match[1].strip()[:_LONGEST] for match in matches]
    items = list(dict.fromkeys([*context.checklist[:4], *written]))[:wanted]
    return items + [item for item in FALLBACK if item not in items][: max(0, 4 - len(items))]


def _question(context: SelectionContext, items: Sequence[str], texts: Sequence[str]) -> Request:
    options = tuple(str(at + 1) for at in range(len(texts)))
    pairs = zip(options, texts, strict=True)
    answers = "\n".join(fenced(f"answer-{option}", text, _TAGS) for option, text in pairs)
    listed = "\n".join(f"- {item}" for item in items)
    text = (
        f"A request and {len(texts)} answers to it "
        f"follow.\n\n{fenced('request', conversation(context.request), _TAGS)}\n\n{answers}\n\n"
        f"A good answer meets this checklist:\n{listed}\n\nWhich answer meets it best? Reply with "
        f"its number only, from 1 to {len(texts)}."
    )
    return _asking(context, text, _PICK, options)


def _asking(
    context: SelectionContext, text: str, tokens: int, options: tuple[str, ...] = ()
) -> Request:
    said = {"role": "user", "content": text}
    return Request((said,), max_tokens=tokens, options=options, seed=context.seed)


async def judged(
    context: SelectionContext, candidates: Sequence[str], evidence: Sequence[str]
) -> NDArray[np.float64]:
    """Each unordered pair of different texts is judged once, its order drawn by seed; equal texts
    have utility 1.
    """
    pairs = dict.fromkeys((min(a, b), max(a, b)) for a in candidates for b in evidence if a != b)
    chance = context.chance("pairs")
    asked = [pair if chance.random() < 0.5 else pair[::-1] for pair in pairs]
    work = (_grade(context, *pair) for pair in asked)
    grades = await asyncio.gather(*work, return_exceptions=True)
    for grade in grades:
        if isinstance(grade, BaseException):
            raise grade
    values = dict(zip(pairs, grades, strict=True))
    return np.array(
        [[1.0 if a == b else values[min(a, b), max(a, b)] for b in evidence] for a in candidates],
        np.float64,
    )


async def _grade(context: SelectionContext, one: str, other: str) -> float:
    text = (
        f"A request and two answers to it follow.\n\n"
        f"{fenced('request', conversation(context.request), _TAGS)}\n"
        f"{fenced('answer-A', one, _TAGS)}\n{fenced('answer-B', other, _TAGS)}\n\n"
        "How far do the two answers say the same? 1: nothing in common. 5: the same. "
        "Reply with one digit from 1 to 5."
    )
    grade = await pick(context, _asking(context, text, _PICK, _GRADES))
    return 0.0 if grade is None else grade / (len(_GRADES) - 1)


async def pick(context: SelectionContext, request: Request) -> int | None:
    """The number of the option that the arbiter picks, from 0; None when it picks none.

    Where the arbiter cannot be held to options, the first option in what it says counts.
    """
    options = request.options
    held = "options" in context.arbiter.abilities
    reply = await context.ask(request if held else replace(request, options=()))
    said = reply.text.strip()
    if said in options:
        return options.index(said)
    longest_first = map(re.escape, sorted(options, key=len, reverse=True))
    named = re.search(rf"\b(?:{'|'.join(longest_first)})\b", said)
    return options.index(named[0]) if named else None
