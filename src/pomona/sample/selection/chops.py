"""CHOPS: a judge writes a checklist for the prompt, then picks one of all candidates in one pass.
Khairi et al. 2025, §5.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pomona.models.chat.protocol import Reply, Request
from pomona.sample.selection.choice import Choice, Desk, conversation, highest, text_of
from pomona.sample.selection.judging import fenced, pick

FALLBACK = (
    "does what the request asks",
    "is correct",
    "is complete",
    "is clear and well written",
)
_ITEM = re.compile(r"^\s*(?:[-*•]|\(?\d{1,2}[.):])\s*(?:\[[ xX]?\]\s*)?(.+)$")
_LONGEST = 300


async def chops(desk: Desk, pool: Sequence[Reply]) -> Choice:
    """The score is 1 for the chosen text and 0 for the others. Equal texts are shown once, in an
    order shuffled by seed and prompt.

    The notes have the checklist, the order shown (candidate indices) and the seed. A judge that
    names none leaves the first candidate.
    """
    texts = [text_of(reply) for reply in pool]
    shown = [texts.index(text) for text in dict.fromkeys(texts)]
    if len(shown) == 1:
        return Choice(0, (1.0,) * len(pool), {"checklist": [], "order": shown, "seed": desk.seed})
    items = await checklist(desk)
    desk.chance("order").shuffle(shown)
    picked = await pick(desk, _question(desk, items, [texts[at] for at in shown]))
    winner = texts[shown[picked] if picked is not None else 0]
    scores = tuple(float(text == winner) for text in texts)
    notes = {"checklist": items, "order": shown, "seed": desk.seed}
    return Choice(
        highest(scores),
        scores,
        notes if picked is not None else {**notes, "fallback": "first: the judge named no answer"},
    )


async def checklist(desk: Desk) -> list[str]:
    """4 to 8 things a good answer to the prompt does: the desk's own first, then the judge's, then
    general ones until there are 4.
    """
    wanted = desk.strategy.items
    text = (
        f"A request follows.\n\n{fenced('request', conversation(desk.request))}\n\nWrite a "
        f"checklist of {wanted} short, different things "
        "that a good answer to this request does. One item a line, each starting with '- '. Do "
        "not answer the request."
    )
    reply = await desk.ask(
        Request(
            messages=({"role": "user", "content": text},), max_tokens=40 * wanted, seed=desk.seed
        )
    )
    found = [
        match[1].strip()[:_LONGEST]
        for line in reply.text.splitlines()
        if (match := _ITEM.match(line))
    ]
    items = list(dict.fromkeys([*desk.checklist[:4], *found]))[:wanted]
    return items + [item for item in FALLBACK if item not in items][: max(0, 4 - len(items))]


def _question(desk: Desk, items: Sequence[str], texts: Sequence[str]) -> Request:
    options = tuple(str(at + 1) for at in range(len(texts)))
    answers = "\n".join(
        fenced(f"answer-{option}", text) for option, text in zip(options, texts, strict=True)
    )
    listed = "\n".join(f"- {item}" for item in items)
    text = (
        f"A request and {len(texts)} answers to it "
        f"follow.\n\n{fenced('request', conversation(desk.request))}\n\n{answers}\n\n"
        f"A good answer meets this checklist:\n{listed}\n\nWhich answer meets it best? Reply with "
        f"its number only, from 1 to {len(texts)}."
    )
    return Request(
        messages=({"role": "user", "content": text},), max_tokens=8, options=options, seed=desk.seed
    )
