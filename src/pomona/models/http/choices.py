"""Between our requests and the JSON of the OpenAI API, and how many tokens it cost."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.models.request import (
    Finish,
    ModelError,
    Reply,
    ReplyPiece,
    Request,
    Spent,
    Token,
    tokens_of_server,
    wanted_tokens,
)

_FINISH: dict[str, Finish] = {
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}


@dataclass
class UpstreamChoice:
    """One choice of an answer, or what has come of it so far."""

    text: str = ""
    finish: Finish | None = None
    tokens: list[Token] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """Whether anything of it has come."""
        return bool(self.text or self.calls or self.finish)

    @property
    def logprob(self) -> float | None:
        """The sum over its tokens, None where they are not known."""
        return math.fsum(token["logprob"] for token in self.tokens) if self.tokens else None

    @property
    def tool_calls(self) -> tuple[Mapping[str, Any], ...]:
        return tuple(self.calls[index] for index in sorted(self.calls))

    def reply(
        self, request: Request, name: str, index: int, temperature: float, spent: Spent
    ) -> Reply:
        """It as the answer of the model called `name`."""
        return Reply(
            self.text,
            self.finish or "stop",
            spent,
            name,
            index,
            temperature,
            self.logprob,
            self.tool_calls,
            wanted_tokens(self.tokens, request.logprobs),
        )


@dataclass
class Given:
    """How much of a streamed choice has been passed on."""

    text: str = ""
    tokens: int = 0

    def fresh(
        self, choice: UpstreamChoice, index: int, most: int | None, name: str
    ) -> ReplyPiece | None:
        """What has come of the choice since, None where that is nothing. A ModelError where it is
        no longer what it was.
        """
        seen = choice.text
        if len(seen) <= len(self.text) and self.text.startswith(seen):
            return None
        if not seen.startswith(self.text):
            message = (
                f"the stream was cut after {len(self.text)} characters, and the repeated "
                "answer differs"
            )
            raise ModelError(
                message,
                status=502,
                where=name,
                remedy="ask again, without streaming if it stays so",
            )
        piece = ReplyPiece(
            seen[len(self.text) :], index, wanted_tokens(choice.tokens[self.tokens :], most)
        )
        self.text, self.tokens = seen, max(self.tokens, len(choice.tokens))
        return piece


def body_of(
    request: Request, name: str, temperature: float, n: int, seed: int
) -> tuple[str, dict[str, Any]]:
    """Path and body of a request for `n` choices. What is not ours to know is in `extra` and goes
    through as it is.
    """
    body: dict[str, Any] = {
        "model": name,
        "max_tokens": request.max_tokens,
        "temperature": temperature,
        "seed": seed,
    }
    if n > 1:
        body["n"] = n
    if request.top_p < 1:
        body["top_p"] = request.top_p
    if request.min_p > 0:
        body["min_p"] = request.min_p
    if request.stop:
        body["stop"] = list(request.stop)
    if request.options:
        body["response_format"] = _one_of(request.options)
    if request.prompt is not None:
        if request.logprobs is not None:
            body["logprobs"] = max(1, request.logprobs)
        return "completions", {**body, "prompt": request.prompt, **request.extra}
    if request.logprobs is not None:
        body |= {
            "logprobs": True,
            **({"top_logprobs": request.logprobs} if request.logprobs else {}),
        }
    if request.tools:
        body["tools"] = [dict(tool) for tool in request.tools]
    return "chat/completions", {
        **body,
        "messages": [dict(message) for message in request.messages],
        **request.extra,
    }


def choices_of(answer: Mapping[str, Any], options: Sequence[str]) -> list[UpstreamChoice]:
    """The usable choices of an answer, in order; with options those that are one of them."""
    choices = []
    for raw in answer.get("choices") or ():
        if not isinstance(raw, dict):
            continue
        choice = _whole(raw)
        if options:
            option = _option(choice.text, options)
            if option is None:
                continue
            choice.text = option
        choices.append(choice)
    return choices


def grown_by(event: Mapping[str, Any], choices: Sequence[UpstreamChoice]) -> None:
    """Bring the choices up to date with an event of a stream."""
    for raw in event.get("choices") or ():
        if not isinstance(raw, dict) or not 0 <= (place := raw.get("index") or 0) < len(choices):
            continue
        choice, delta = choices[place], raw.get("delta") or {}
        choice.text += delta.get("content") or raw.get("text") or ""
        for call in delta.get("tool_calls") or ():
            _add_call(choice, call)
        if raw.get("finish_reason"):
            choice.finish = _FINISH.get(raw["finish_reason"], "stop")
        choice.tokens += tokens_of_server(raw.get("logprobs"))


def usage_of(answer: Mapping[str, Any]) -> tuple[int, int] | None:
    """Prompt and completion tokens as the server counted them; None where it did not."""
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    return (prompt, completion) if isinstance(prompt, int) and isinstance(completion, int) else None


def _whole(raw: Mapping[str, Any]) -> UpstreamChoice:
    message = raw.get("message") or {}
    choice = UpstreamChoice(
        text=message.get("content") or raw.get("text") or "",
        finish=_FINISH.get(raw.get("finish_reason") or "", "stop"),
    )
    for place, call in enumerate(message.get("tool_calls") or ()):
        choice.calls[place] = dict(call)
    choice.tokens += tokens_of_server(raw.get("logprobs"))
    return choice


def _add_call(choice: UpstreamChoice, piece: Mapping[str, Any]) -> None:
    """Arguments of a streamed tool call come in pieces."""
    call = choice.calls.setdefault(
        piece.get("index", 0),
        {"id": "", "type": "function", "function": {"name": "", "arguments": ""}},
    )
    call["id"] = piece.get("id") or call["id"]
    function = piece.get("function") or {}
    call["function"]["name"] += function.get("name") or ""
    call["function"]["arguments"] += function.get("arguments") or ""


def _one_of(options: Sequence[str]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string", "enum": list(options)}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": schema},
    }


def _option(text: str, options: Sequence[str]) -> str | None:
    """The option that a text is, bare or in the JSON object that was asked for."""
    try:
        answer = json.loads(text)
    except ValueError:
        answer = text
    if isinstance(answer, dict):
        answer = answer.get("answer")
    bare = str(answer).strip()
    return next(
        (option for option in options if option in (answer, bare) or option.strip() == bare), None
    )


_BYTES_PER_TOKEN = 4
_PER_MESSAGE = 4  # what a chat template puts around a message, about


class TokenCounter:
    """Counts with the tokenizer at `path` (a folder, or its tokenizer.json), or without one
    believes the server, or guesses.
    """

    def __init__(self, path: str | None = None) -> None:
        self._tokenizer: Any = None if path is None else _opened(Path(path))

    def tokens(
        self, request: Request, choices: Sequence[UpstreamChoice], usage: tuple[int, int] | None
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
