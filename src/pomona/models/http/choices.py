"""Between our requests and the JSON of the OpenAI API, and how many tokens it cost."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

from pomona.documents import parse_json
from pomona.errors import PomonaError
from pomona.models.concurrency import TransientError
from pomona.models.http.client import Answer, Logprobs, RawChoice, ToolCall, checked, malformed
from pomona.models.model import HAVE, CostModel
from pomona.models.request import (
    Finish,
    ModelError,
    Reply,
    ReplyPiece,
    Request,
    Spent,
    Token,
    check_ids,
    token_entry,
    wanted_tokens,
    wrong_request,
)
from pomona.models.schemas import obeys
from pomona.models.validity import follows

_FINISH: dict[str, Finish] = {
    "length": "length",
    "max_tokens": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "safety": "content_filter",
}
_FAILED = frozenset({"error", "abort", "aborted", "cancelled"})  # the server gave up half-way


@dataclass
class UpstreamChoice:
    """One choice of an answer, or what has come of it so far."""

    text: str = ""
    finish: Finish | None = None
    tokens: list[Token] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    reasoning: str = ""
    refusal: str = ""
    _indexed: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """Whether anything of it has come."""
        return bool(self.text or self.calls or self.finish or self.reasoning or self.refusal)

    @property
    def logprob(self) -> float | None:
        """The sum over its tokens, None where they are not known."""
        return math.fsum(token["logprob"] for token in self.tokens) if self.tokens else None

    @property
    def tool_calls(self) -> tuple[Mapping[str, Any], ...]:
        """The calls of tools, as they came."""
        return tuple(self.calls)

    def grow(self, raw: RawChoice) -> None:
        """Add what a piece of it, or the whole of it, holds. TransientError where the server says
        that it gave up.
        """
        said = raw.said
        self.text += said.content or raw.text or ""
        self.reasoning += said.thought
        self.refusal += said.refusal or ""
        for call in said.calls:
            self._add_call(call)
        if raw.finish_reason:
            if raw.finish_reason.lower() in _FAILED:
                reason = f'the server ended it with finish_reason "{raw.finish_reason[:40]}"'
                raise TransientError(reason)
            self.finish = _FINISH.get(raw.finish_reason.lower(), "stop")
        self.tokens += tokens_of_server(raw.logprobs)

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
            self.reasoning or None,
            self.refusal or None,
        )

    def _add_call(self, piece: ToolCall) -> None:
        """Arguments of a streamed call come in pieces. A new id is a new call, whatever its index;
        servers that give no index send a call's pieces one after the other.
        """
        call, function = self._continued(piece), piece.function
        if call is None:
            call = {"id": "", **piece.model_dump(exclude_none=True, exclude={"index"})}
            call |= {"type": piece.type or "function"}
            if function is not None or call["type"] == "function":
                call["function"] = {"name": "", "arguments": ""}
            self.calls.append(call)
        if piece.index is not None:
            self._indexed[piece.index] = call
        call["id"] = call["id"] or piece.id or ""
        if function is not None:
            made = call.setdefault("function", {"name": "", "arguments": ""})
            if function.name != made["name"]:  # some repeat it with each piece
                made["name"] += function.name or ""
            made["arguments"] += function.written

    def _continued(self, piece: ToolCall) -> dict[str, Any] | None:
        """The call that a piece goes on with, None for a new one."""
        last = self.calls[-1] if self.calls else None
        if piece.index is not None:
            last = self._indexed.get(piece.index)
        if piece.id:
            known = next((call for call in self.calls if call["id"] == piece.id), None)
            return known or (last if last is not None and not last["id"] else None)
        named = piece.function is not None and bool(piece.function.name)
        if last is not None and piece.index is None and named:
            # Without id and index only a name tells that another call begins.
            return None if last.get("function", {}).get("arguments") else last
        return last


@dataclass
class Given:
    """How much of a streamed choice has been passed on."""

    text: str = ""
    reasoning: str = ""
    tokens: int = 0

    def fresh(
        self, choice: UpstreamChoice, index: int, most: int | None, name: str
    ) -> ReplyPiece | None:
        """What has come of the choice since, None where that is nothing. A ModelError where it is
        no longer what it was.
        """
        text = self._rest(self.text, choice.text, name)
        reasoning = self._rest(self.reasoning, choice.reasoning, name)
        if not text and not reasoning:
            return None
        tokens = wanted_tokens(choice.tokens[self.tokens :], most)
        self.text, self.reasoning = self.text + text, self.reasoning + reasoning
        self.tokens = max(self.tokens, len(choice.tokens))
        return ReplyPiece(text, index, tokens, reasoning)

    @staticmethod
    def _rest(given: str, seen: str, name: str) -> str:
        """What of the text seen was not given yet: an answer that is repeated has it again."""
        if seen.startswith(given):
            return seen[len(given) :]
        if given.startswith(seen):
            return ""
        raise ModelError(
            f"the stream was cut after {len(given)} characters, and the repeated answer differs",
            status=502,
            where=name,
            remedy="ask again, without streaming if it stays so",
        )


def body_of(
    request: Request, name: str, temperature: float, indices: Sequence[int]
) -> tuple[str, dict[str, Any]]:
    """Path and body of a request for these samples. What is not ours to know is in `extra` and goes
    through as it is. ModelError where an answer to messages is begun, which the API does not know.
    """
    body: dict[str, Any] = {
        "model": name,
        "max_tokens": request.max_tokens,
        "temperature": temperature,
        "seed": _seed(request.seed, indices[0]),
    }
    if len(indices) > 1:
        body["n"] = len(indices)
    body |= _draws(request)
    if request.stop:
        body["stop"] = list(request.stop)
    if request.options:
        body["response_format"] = _one_of(request.options)
    if request.schema is not None:
        body["response_format"] = _schema(request.schema)
    if request.must_call:
        body["tool_choice"] = _must_call(request)
    if request.prompt is not None:
        if request.logprobs is not None:
            body["logprobs"] = max(1, request.logprobs)
        prompt = list(request.prompt_ids) or request.prompt + request.prefix
        return "completions", {**body, "prompt": prompt, **request.extra}
    if request.prefix:
        message = "cannot go on with an answer that is begun"
        raise wrong_request(message, where=name, remedy=HAVE["prefix"])
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


def choices_of(
    answer: Mapping[str, Any], options: Sequence[str], where: str
) -> list[UpstreamChoice]:
    """The usable choices of a whole answer, in order; with options those that are one of them. A
    ModelError of status 502 where it is malformed.
    """
    choices = []
    raws = checked(answer, Answer, where).choices or []
    for raw in sorted(raws, key=lambda raw: raw.index or 0):
        choice = UpstreamChoice()
        choice.grow(raw)
        choice.finish = choice.finish or "stop"
        if options and not choice.refusal and choice.finish != "content_filter":
            option = _option(choice.text, options)
            if option is None:
                continue
            choice.text = option
        choices.append(choice)
    return choices


def held(choices: Sequence[UpstreamChoice], request: Request) -> list[UpstreamChoice]:
    """The choices that are what the request held its answer to; what is cut or refused can be no
    other, and calls have schemas of their own.
    """
    if not request.must_call and request.schema is None:
        return list(choices)

    def right(choice: UpstreamChoice) -> bool:
        if choice.refusal or choice.finish in {"length", "content_filter"}:
            return True
        if request.must_call:
            return obeys(choice.calls, request.must_call)
        return bool(choice.calls or request.stop) or follows(choice.text, request.schema)

    return [choice for choice in choices if right(choice)]


def no_option(request: Request, where: str) -> ModelError:
    """The error of an answer without a usable choice."""
    message, code = "its answer is none of the options", "no_option"
    if request.schema is not None:
        message, code = "its answer does not follow the schema", "schema_not_followed"
    if request.must_call:
        message, code = "its answer is not the call that was asked for", "schema_not_followed"
    remedy = "use a server that knows response_format json_schema and tool_choice"
    return ModelError(message, status=502, where=where, remedy=remedy, code=code)


def grown_by(event: Mapping[str, Any], choices: Sequence[UpstreamChoice], where: str) -> None:
    """Bring the choices up to date with an event of a stream. A ModelError of status 502 where it
    is malformed, or of a choice that nobody asked for.
    """
    for raw in checked(event, Answer, where).choices or ():
        place = raw.index or 0
        if place >= len(choices):
            raise malformed(f"it has a choice {place}, and {len(choices)} were asked for", where)
        choices[place].grow(raw)


def tokens_of_server(given: Logprobs | None) -> list[Token]:
    """The tokens in the field `logprobs` of a choice, in the form of chats or of the older
    completions; those without a log-probability are left out.
    """
    if given is None:
        return []
    if given.content is not None:
        return [
            {**token.model_dump(exclude_unset=True), "logprob": token.logprob}
            for token in given.content
            if token.logprob is not None
        ]
    values = given.token_logprobs or []
    names = given.tokens or [""] * len(values)
    tops = given.top_logprobs or [None] * len(values)
    return [
        token_entry(
            name.encode(), value, [(other.encode(), log) for other, log in (top or {}).items()]
        )
        for name, value, top in zip(names, values, tops, strict=False)
        if value is not None
    ]


def _seed(seed: int, index: int) -> int:
    if index == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}:{index}".encode()).digest()[:4], "little") >> 1


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


def _draws(request: Request) -> dict[str, Any]:
    """What bounds or bends draws, where it does."""
    told: dict[str, Any] = {}
    names = ("min_p", "top_k", "frequency_penalty", "presence_penalty")
    told |= {name: value for name in names if (value := getattr(request, name))}
    for name in ("top_p", "repetition_penalty"):
        if (value := getattr(request, name)) != 1:
            told[name] = value
    if request.logit_bias:
        told["logit_bias"] = {str(token): bias for token, bias in request.logit_bias.items()}
    return told


def _schema(schema: Mapping[str, Any] | bool) -> dict[str, Any]:
    if schema == {"type": "object"}:
        return {"type": "json_object"}
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def _must_call(request: Request) -> Any:
    if len(request.must_call) == 1:
        return {"type": "function", "function": {"name": request.must_call[0]}}
    return "required"


def _option(text: str, options: Sequence[str]) -> str | None:
    """The option that a text is, bare or in the JSON object that was asked for."""
    try:
        answer = parse_json(text.encode("utf-8", "replace"), "the answer", top=None)
    except PomonaError:
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
        self.slow = path is not None  # long texts are for a thread of their own

    def tokens(
        self, request: Request, choices: Sequence[UpstreamChoice], usage: tuple[int, int] | None
    ) -> tuple[int, list[int], bool]:
        """Prompt tokens, tokens of each choice, and whether any of them is a guess."""
        texts = [
            choice.reasoning
            + choice.text
            + choice.refusal
            + "".join(str(call.get("function")) for call in choice.tool_calls)
            for choice in choices
        ]
        if usage is not None and not usage[1] and any(texts):
            usage = None  # nobody writes with no token: it has not counted
        prompt = usage[0] if usage is not None else self._prompt(request)
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

    async def spent(
        self,
        request: Request,
        choices: Sequence[UpstreamChoice],
        usage: tuple[int, int] | None,
        costs: CostModel,
        seconds: float = 0.0,
    ) -> list[Spent]:
        """What each choice cost; the first pays for the prompt."""
        work = partial(self.tokens, request, choices, usage)
        prompt, answers, estimated = await asyncio.to_thread(work) if self.slow else work()
        return [
            costs.spent(
                context=prompt,
                prompt_tokens=prompt if place == 0 else 0,
                completion_tokens=tokens,
                seconds=seconds / len(choices),
                estimated=estimated,
            )
            for place, tokens in enumerate(answers)
        ]

    @staticmethod
    def guess(request: Request) -> int:
        """Prompt tokens by the length of the text."""
        if request.prompt is not None:
            return len(request.prompt_ids) or _guess(request.prompt + request.prefix)
        return sum(
            _guess(str(message.get("content") or "")) + _PER_MESSAGE for message in request.messages
        )

    def _prompt(self, request: Request) -> int:
        if self._tokenizer is None:
            return self.guess(request)
        if request.prompt is not None:
            text = request.prompt + request.prefix
            return len(request.prompt_ids) or len(self._encoded([text])[0])
        return sum(
            len(ids) + _PER_MESSAGE
            for ids in self._encoded(
                [str(message.get("content") or "") for message in request.messages]
            )
        )

    def check_ids(self, ids: Sequence[int]) -> None:
        """A ModelError for ids that the tokenizer has not, where there is one."""
        if self._tokenizer is not None:
            check_ids(ids, self._tokenizer.get_vocab_size())

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        return [
            encoding.ids
            for encoding in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        ]


def _guess(text: str) -> int:
    return math.ceil(len(text.encode("utf-8", "replace")) / _BYTES_PER_TOKEN) + 1


def _shared(texts: Sequence[str], counted: int) -> list[int]:
    """Tokens of each choice when the server gave one number: that of all choices, which they then
    add up to, or of the first alone, whichever fits their length.
    """
    guesses = [_guess(text) for text in texts]
    fits_all, fits_one = (
        abs(math.log(max(counted, 1) / guess)) for guess in (sum(guesses), guesses[0])
    )
    if fits_one < fits_all:
        return [max(1, round(guess * counted / guesses[0])) for guess in guesses]
    ends = [at * counted // sum(guesses) for at in accumulate(guesses)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


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
