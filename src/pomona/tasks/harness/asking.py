"""What lm-eval asks for a text with, as a request to any model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from pomona.errors import PomonaError
from pomona.models import Ask, Model, Reply, Request

_UNDERSTOOD = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "min_p"}
_ONLY_SAMPLED = {"top_k", "typical_p"}  # of no effect on a greedy answer


class Messages(str):
    """Chat messages as JSON, where lm-eval has the text of a prompt."""

    def parsed(self) -> tuple[Mapping[str, str], ...]:
        """The messages."""
        return tuple(json.loads(self))


def messages_of(turns: Sequence[Mapping[str, str]], add_generation_prompt: bool = True) -> Messages:
    """The turns of a prompt, for every model that takes messages. Raises PomonaError where the
    task itself begins the answer, which not every model can go on with.
    """
    if not add_generation_prompt:
        message, remedy = "begins the answer itself (gen_prefix)", "ask without chat"
        raise PomonaError(message, where="the task", remedy=remedy)
    return Messages(json.dumps(list(turns), ensure_ascii=False))


def request_of(context: str, settings: Mapping[str, Any], seed: int = 0) -> tuple[Request, float]:
    """What lm-eval asks with a context and `generation_kwargs`, and at which temperature. Raises
    PomonaError for a setting that models do not share.
    """
    normal = import_module("lm_eval.models.utils").normalize_gen_kwargs(dict(settings))
    sampled = bool(normal.get("do_sample"))
    left = set(normal) - _UNDERSTOOD - (set() if sampled else _ONLY_SAMPLED)
    left -= {"num_beams"} if normal.get("num_beams") == 1 else set()
    if left:
        message, known = f'"{min(left)}" cannot be asked of a model', ", ".join(sorted(_UNDERSTOOD))
        raise PomonaError(message, where="generation_kwargs", remedy=f"known: {known}")
    request = Request(
        messages=context.parsed() if isinstance(context, Messages) else (),
        prompt=None if isinstance(context, Messages) else context,
        max_tokens=normal["max_gen_toks"],
        top_p=normal.get("top_p", 1.0) if sampled else 1.0,
        min_p=normal.get("min_p", 0.0) if sampled else 0.0,
        stop=tuple(stop for stop in normal["until"] if stop),
        seed=seed,
    )
    return request, float(normal.get("temperature", 0.0)) if sampled else 0.0


async def replies(model: Model, asks: Sequence[Ask]) -> list[list[Reply]]:
    """The replies to each request, or the first error."""
    if model.local:  # side by side, rounding would depend on who was faster
        pools = await model.together(asks)
    else:
        pools = await asyncio.gather(*(model.reply(*ask) for ask in asks), return_exceptions=True)
    for pool in pools:
        if isinstance(pool, BaseException):
            raise pool
    return [pool for pool in pools if not isinstance(pool, BaseException)]
