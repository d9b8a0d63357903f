"""Chain of thought: the model writes its steps down, and the answer is what it ends with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from pomona.models import Model, Reply, Request
from pomona.sample.context.messages import with_question
from pomona.sample.selection.choosing import extractor

_ASK = (
    "Think step by step and write the steps down. Then end with one line: Answer: <the "
    "answer alone>"
)
_LINE = re.compile(
    r"^[\s>*_#`-]*(?:the\s+)?(?:final\s+)?answer(?:\s+is)?\s*[*_`]*\s*[:=][*_`\s]*(\S[^\n]*)",
    re.IGNORECASE | re.MULTILINE,
)
_HASHES = re.compile(r"^\s*####\s*(\S[^\n]*)", re.MULTILINE)
_SAID = re.compile(
    r"\banswer\s+is\s*:?\s*([^\n]*?)(?:[.!]?\s*$|[.!]\s)", re.IGNORECASE | re.MULTILINE
)
_BOXED = extractor("boxed")


@dataclass(frozen=True)
class Thought:
    """Asks for steps and an answer line, and gives back the answer alone.

    tokens: how many more tokens an answer may have for its steps. Where no answer is found, because
        the model never came to one, the text
    stays whole. Notes: `thought` (all that was written) and `answer` (None where none was found).
    """

    tokens: int = 256
    name: str = "thought"

    async def before(self, request: Request, model: Model) -> tuple[Request, Mapping[str, Any]]:
        """See the protocol."""
        asked = with_question(request, lambda question: f"{question}\n\n{_ASK}")
        return replace(asked, max_tokens=request.max_tokens + self.tokens), {}

    async def after(
        self, request: Request, reply: Reply, model: Model, notes: Mapping[str, Any]
    ) -> tuple[Reply, Mapping[str, Any]]:
        """See the protocol."""
        answer = final_answer(reply.text)
        told = {"thought": reply.text, "answer": answer}
        return (reply if answer is None else replace(reply, text=answer)), told


def final_answer(text: str) -> str | None:
    """The answer a text comes to: the last \\boxed{…}, else the last of `#### …`, a line
    `Answer: …` and "the answer is …"; else None.
    """
    boxed = _BOXED(text)
    if boxed is not None:
        return boxed
    answers = []
    for match in chain.from_iterable(each.finditer(text) for each in (_HASHES, _LINE, _SAID)):
        answer = match[1].strip().strip("*_`$ ").removesuffix(".").strip()
        if answer and answer.casefold() != "<the answer alone>":
            answers.append((match.start(1), answer))
    return max(answers)[1] if answers else None
