"""How many tokens prompts and answers have, counted by us where a tokenizer is at hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.models.chat._choices import Choice
from pomona.models.chat.protocol import Request

_BYTES_PER_TOKEN = 4
_PER_MESSAGE = 4  # what a chat template puts around a message, about


class Tally:
    """Counts with the tokenizer at `path` (a folder, or its tokenizer.json), or without one
    believes the server, or guesses.
    """

    def __init__(self, path: str | None = None) -> None:
        self._tokenizer: Any = None if path is None else _opened(Path(path))

    def tokens(
        self, request: Request, choices: Sequence[Choice], usage: tuple[int, int] | None
    ) -> tuple[int, list[int], bool]:
        """Prompt tokens, tokens of each choice, and whether any of them is a guess."""
        prompt = usage[0] if usage is not None else self._prompt(request)
        texts = [
            choice.text + "".join(str(call.get("function")) for call in choice.tool_calls)
            for choice in choices
        ]
        if self._tokenizer is not None:
            ends = [choice.finish != "length" for choice in choices]
            counted = [len(ids) + end for ids, end in zip(self._encoded(texts), ends, strict=True)]
            return prompt, counted, usage is None
        if usage is None:
            return prompt, [_guess(text) for text in texts], True
        return (
            (prompt, [usage[1]], False)
            if len(choices) == 1
            else (prompt, _shared(texts, usage[1]), True)
        )

    @staticmethod
    def guess(request: Request) -> int:
        """Prompt tokens by the length of the text."""
        if request.prompt is not None:
            return _guess(request.prompt)
        return sum(
            _guess(str(message.get("content") or "")) + _PER_MESSAGE for message in request.messages
        )

    def _prompt(self, request: Request) -> int:
        if self._tokenizer is None:
            return self.guess(request)
        if request.prompt is not None:
            return len(self._encoded([request.prompt])[0])
        return sum(
            len(ids) + _PER_MESSAGE
            for ids in self._encoded(
                [str(message.get("content") or "") for message in request.messages]
            )
        )

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        return [
            encoding.ids
            for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        ]


def _guess(text: str) -> int:
    return math.ceil(len(text.encode()) / _BYTES_PER_TOKEN) + 1


def _shared(texts: Sequence[str], counted: int) -> list[int]:
    """Tokens of each choice when the server gave one number: that of all choices, or of the first
    alone, whichever fits their length.
    """
    guesses = [_guess(text) for text in texts]
    fits_all, fits_one = (
        abs(math.log(max(counted, 1) / guess)) for guess in (sum(guesses), guesses[0])
    )
    rate = counted / (sum(guesses) if fits_all <= fits_one else guesses[0])
    return [max(1, round(guess * rate)) for guess in guesses]


def _opened(path: Path) -> Any:
    from tokenizers import Tokenizer

    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no narrower class
        raise PomonaError(
            f"cannot be read as a tokenizer: {error}",
            where=file,
            remedy="give the path of a tokenizer.json",
        ) from error
