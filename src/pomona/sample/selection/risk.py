"""Minimum Bayes risk: the candidate closest to all the evidence. Kumar & Byrne 2004; Khairi et al.
2025 (arXiv 2506.20544), §5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pomona.models.chat.protocol import Message, Reply, Request
from pomona.sample.pool import TEMPERATURE
from pomona.sample.selection.choice import Choice, Desk, highest, text_of
from pomona.sample.selection.utility import utilities


async def mbr(desk: Desk, pool: Sequence[Reply]) -> Choice:
    """Scores are mean utilities to the whole pool, the candidate itself included; the first of
    equals wins.
    """
    return await _closest(desk, pool, [])


async def xmbr(desk: Desk, pool: Sequence[Reply]) -> Choice:
    """As mbr, with the pool and `evidence` further samples in another language as evidence. The
    further ones cannot be chosen.

    The cost of the further samples is in the selection's; where the budget ends before them there
    is less evidence, as the notes say.
    """
    temperature = desk.strategy.temperature or desk.request.temperature or TEMPERATURE
    samples = [(at, temperature) for at in range(desk.strategy.evidence)]
    replies = await desk.draw(in_language(desk.request, desk.strategy.language), samples)
    return await _closest(desk, pool, [text_of(reply) for reply in replies])


def in_language(request: Request, language: str) -> Request:
    """The same request, asking for an answer in another language."""
    wish = f"\n\nAnswer in {language}."
    if request.prompt is not None:
        return replace(request, prompt=request.prompt + wish)
    messages = list(request.messages)
    last = max(
        (at for at, message in enumerate(messages) if message.get("role") == "user"), default=None
    )
    if last is None:
        return replace(request, messages=(*messages, {"role": "user", "content": wish.strip()}))
    messages[last] = _with(messages[last], wish)
    return replace(request, messages=tuple(messages))


def _with(message: Message, wish: str) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, list | tuple):
        return {**message, "content": [*content, {"type": "text", "text": wish}]}
    return {**message, "content": (content or "") + wish}


async def _closest(desk: Desk, pool: Sequence[Reply], further: list[str]) -> Choice:
    texts = [text_of(reply) for reply in pool]
    scores = (await utilities(desk, texts, [*texts, *further])).mean(axis=1)
    notes: dict[str, Any] = {"evidence": further} if desk.strategy.select == "xmbr" else {}
    return Choice(highest(scores), tuple(float(score) for score in scores), notes)
