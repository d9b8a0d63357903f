"""What of llama.cpp runs in this process: its own server, started for one GGUF file, what is posted
to it and read of its answers, and the grammars that it follows. Its server ignores one that it
cannot read, without a word, so the C functions of llguidance in the library of `xllamacpp` are
asked before.
"""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from ctypes import POINTER, c_bool, c_char_p, c_int8, c_int32, c_size_t, c_uint32, c_void_p
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.models.http.choices import UpstreamChoice
from pomona.models.request import (
    Draw,
    Finish,
    ReplyPiece,
    Request,
    Token,
    content_of,
    tokens_within,
    wanted_tokens,
)
from pomona.models.schemas import NO_ANSWER

Prompt = str | list[int]  # as text, or as tokens where answers are begun with others
CUT = "\ufffd"  # what stands for a character of which bytes are missing
_NO_SEED = (1 << 32) - 1  # llama.cpp takes this one for "any"
_TOKEN = ("token", "logprob", "bytes", "top_logprobs")
_PENALISED = 1 << 17  # tokens that penalties look back

_QUIET = -1
_BATCH = 2048
_LONGEST = 2000  # bytes of a reason
_END = b"\xffend"
_CLOSING, _MARKS, _QUOTE = b"}]", b",:", b'"'
_INSIDE = b"ghijklmopqsuvwxyz"  # what begins no value, so that it stands in a text
_OTHERS = bytes(
    byte for byte in [*b"0123456789", *range(256)] if byte not in _CLOSING + _MARKS + _QUOTE
)
_OFTEN = 8  # times that a byte is taken before all that were not
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llg_new_tokenizer": (c_void_p, [c_void_p, c_char_p, c_size_t]),
    "llg_constraint_init_set_defaults": (None, [c_void_p, c_void_p]),
    "llg_new_matcher": (c_void_p, [c_void_p, c_char_p, c_char_p]),
    "llg_free_matcher": (None, [c_void_p]),
    "llg_matcher_get_error": (c_char_p, [c_void_p]),
    "llg_matcher_compute_mask": (c_int32, [c_void_p]),
    "llg_matcher_compute_mask_into": (c_int32, [c_void_p, c_void_p, c_size_t]),
    "llg_matcher_is_stopped": (c_bool, [c_void_p]),
    "llg_matcher_is_accepting": (c_bool, [c_void_p]),
    "llg_matcher_consume_tokens": (c_int32, [c_void_p, POINTER(c_uint32), c_size_t]),
}


class Engine:
    """A running server; `address` is its loopback URL."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.address: str = server.listening_address

    def stop(self) -> None:
        """End it and give its memory back."""
        self._server = None


def start(
    path: Path, *, threads: int, slots: int, context: int, key: str, embedding: bool = False
) -> Engine:
    """Load a GGUF file. `slots` answers are decoded at once; each may fill the whole `context`,
    which all share.

    With `embedding` it gives mean-pooled vectors instead of answers. A PomonaError when llama.cpp
    cannot load the file.
    """
    import xllamacpp as library

    xllamacpp: Any = library  # its compiled names are unknown to type checkers

    settings: Any = xllamacpp.CommonParams()
    settings.model.path = str(path)
    settings.n_ctx, settings.n_parallel, settings.kv_unified = context, slots, True
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.api_keys, settings.ui, settings.endpoint_slots = [key], False, False
    settings.use_jinja, settings.warmup, settings.verbosity = True, False, _QUIET
    settings.cache_ram_mib = 0
    if embedding:
        settings.embedding, settings.pooling_type = (
            True,
            xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN,
        )
        settings.n_batch = settings.n_ubatch = min(context, _BATCH)
    try:
        return Engine(xllamacpp.Server(settings))
    except Exception as error:  # the library raises no narrower class
        raise PomonaError(
            f"llama.cpp cannot load it: {error}",
            where=path,
            remedy="is the file whole, and memory enough?",
        ) from error


class _Vocabulary(ctypes.Structure):
    # `rest` is zero, as later versions expect what this one does not know.
    _fields_ = [
        ("size", c_uint32),
        ("end", c_uint32),
        ("lengths", POINTER(c_uint32)),
        ("bytes", c_void_p),
        ("json", c_void_p),
        ("texts", c_bool),
        ("encode", c_void_p),
        ("greedy", c_bool),
        ("user", c_void_p),
        ("slices", c_void_p),
        ("rest", c_int8 * 256),
    ]


@cache
def _library() -> tuple[Any, Any] | None:
    """The functions, and what they are asked with: a vocabulary of single bytes. None where this
    build of llama.cpp has none of them.
    """
    import xllamacpp.xllamacpp as home

    library = ctypes.CDLL(str(home.__file__))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name, None)
        if function is None:
            return None
        function.restype, function.argtypes = result, arguments
    spelled = ctypes.create_string_buffer(bytes(range(256)) + _END)
    lengths = (c_uint32 * 257)(*[1] * 256, len(_END))
    bytes_ = ctypes.cast(spelled, c_void_p)
    vocabulary = _Vocabulary(size=257, end=256, lengths=lengths, bytes=bytes_, greedy=True)
    reason = ctypes.create_string_buffer(_LONGEST)
    tokens = library.llg_new_tokenizer(ctypes.byref(vocabulary), reason, _LONGEST)
    if not tokens:
        return None
    settings = ctypes.create_string_buffer(1024)  # its fields are the library's own affair
    library.llg_constraint_init_set_defaults(settings, tokens)
    return library, settings


def constrains() -> bool:
    """Whether llama.cpp holds answers to grammars of llguidance."""
    return _library() is not None


@contextmanager
def _matching(grammar: str) -> Iterator[tuple[Any, Any]]:
    """The functions, and what follows a grammar from its beginning."""
    found = _library()
    assert found is not None  # nobody asks who cannot be held
    library, settings = found
    matcher = library.llg_new_matcher(settings, b"lark", grammar.encode())
    try:
        yield library, matcher
    finally:
        library.llg_free_matcher(matcher)


@lru_cache(64)
def check_grammar(grammar: str) -> str:
    """Why llama.cpp cannot follow a grammar, "" where it can."""
    with _matching(grammar) as (library, matcher):
        if reason := library.llg_matcher_get_error(matcher):
            return reason.decode("utf-8", "replace")
        stuck = library.llg_matcher_compute_mask(matcher) or library.llg_matcher_is_stopped(matcher)
        return NO_ANSWER if stuck else ""


def kept(grammar: str, text: str, *, whole: bool) -> bool:
    """Whether a text is an answer by a grammar, or (not `whole`) the beginning of one."""
    spelled = text.encode()
    with _matching(grammar) as (library, matcher):
        failed = library.llg_matcher_consume_tokens(matcher, _ids(spelled), len(spelled))
        return not failed and (not whole or library.llg_matcher_is_accepting(matcher))


def ending(grammar: str, text: str, most: int) -> str | None:
    """What ends an answer by a grammar that begins with a text, in at most so many bytes; None
    where nothing is found.
    """
    for order, often in (
        (_CLOSING + _QUOTE + _MARKS + _OTHERS, _OFTEN),
        (_CLOSING + _MARKS + _OTHERS + _QUOTE, _OFTEN),
        (_CLOSING + _QUOTE + b"@.-:/" + _OTHERS, 1),
    ):
        found, taken = bytearray(), [0] * 256
        spelled = text.encode()
        with _matching(grammar) as (library, matcher):
            failed = library.llg_matcher_consume_tokens(matcher, _ids(spelled), len(spelled))
            while not failed and len(found) <= most:
                if library.llg_matcher_is_accepting(matcher):
                    return found.decode()
                mask = ctypes.create_string_buffer(36)  # a bit for each byte, in words of four
                if library.llg_matcher_compute_mask_into(matcher, mask, 36):
                    break
                allowed = [byte for byte in order if mask.raw[byte >> 3] >> (byte & 7) & 1]
                if any(byte in _INSIDE for byte in allowed):
                    # A quote ends the text, and brackets and commas are some of it.
                    some = _CLOSING + _MARKS if often > 1 else _CLOSING
                    allowed = [byte for byte in allowed if byte in _QUOTE] or [
                        byte for byte in allowed if byte not in some
                    ]
                if not allowed:
                    break
                byte = min((taken[one] // often, at, one) for at, one in enumerate(allowed))[2]
                taken[byte] += byte not in _CLOSING + _QUOTE
                found.append(byte)
                failed = library.llg_matcher_consume_tokens(matcher, _ids(bytes([byte])), 1)
    return None


def _ids(text: bytes) -> Any:
    return (c_uint32 * len(text))(*text)


def one_of(options: Sequence[str]) -> str:
    """The grammar of llama.cpp's own whose answers are these texts."""
    return "root ::= " + " | ".join(map(_literal, options))


def _literal(text: str) -> str:
    """A string as GBNF writes it."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escapes.get(letter, letter) for letter in text) + '"'


@dataclass
class GrowingRow:
    """One streamed sample so far. `last` is its final event, once that has come."""

    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    last: Mapping[str, Any] | None = None
    _told: int = 0  # of its tokens
    _before: list[int] = field(default_factory=list)  # the id that was told last
    _back: list[int] = field(default_factory=list)  # those that llama.cpp keeps back
    _unnamed: list[Token] = field(default_factory=list)  # the same, with their log-probabilities

    def nameless(self, event: Mapping[str, Any]) -> list[int]:
        """Ids of tokens that this event tells as one text."""
        several = event.get("content") and self._unnamed
        return [*self._back, *(event.get("tokens") or ())] if several else []

    def by(
        self, event: Mapping[str, Any], index: int, most: int | None, names: Sequence[str] = ()
    ) -> ReplyPiece | None:
        """What an event adds, None where that is nothing; tokens of text that is held back wait for
        it. `names` are those of `nameless`.
        """
        content, ids, tokens = (
            event.get("content") or "",
            event.get("tokens") or [],
            _spelled(event),
        )
        if not content and not event.get("stop"):
            self._back, self._unnamed = [*self._back, *ids], [*self._unnamed, *tokens]
            return None
        self.text += content
        if content:
            self.tokens += _named([*self._unnamed, *tokens], names, content)
            self._before, self._back, self._unnamed = ids[-1:] or self._before, [], []
        if event.get("stop"):
            self.last, self.tokens = event, _shown(event, self.text, self.tokens)
        if not content and self._told >= len(self.tokens):
            return None
        fresh, self._told = self.tokens[self._told :], len(self.tokens)
        return ReplyPiece(content, index, wanted_tokens(fresh, most))

    @property
    def kept_back(self) -> tuple[list[int], list[int]]:
        """The last token that was told, and those that llama.cpp has kept back because they might
        have begun a stop string: it forgets them where the sample then ends otherwise.
        """
        end = (self.last or {}).get("stop_type")
        return self._before, [] if end == "word" else self._back[: -1 if end == "eos" else None]

    def rest(
        self, told: str, whole: str, names: Sequence[str], index: int, most: int | None
    ) -> ReplyPiece | None:
        """What was kept back, from the text of the last token that was told, without and with it,
        and the names of the tokens by themselves. Characters of which tokens are not known are left
        out, and what follows them.
        """
        rest = whole.removeprefix(told).partition(CUT)[0] if whole.startswith(told) else ""
        fresh = _named(self._unnamed[: len(names)], names, rest)
        self.text, self.tokens = self.text + rest, [*self.tokens, *fresh]
        return ReplyPiece(rest, index, wanted_tokens(fresh, most)) if rest else None

    @property
    def row(self) -> dict[str, Any]:
        """The sample as the route gives it without streaming."""
        return {**(self.last or {}), "content": self.text, "completion_probabilities": self.tokens}


def groups(samples: Sequence[Draw], slots: int) -> list[tuple[float, list[int]]]:
    """(temperature, consecutive indices), at most `slots` each: what one request can ask, for its
    seeds count up from the first.
    """
    groups: list[tuple[float, list[int]]] = []
    for temperature, index in sorted({(temperature, index) for index, temperature in samples}):
        last = groups[-1] if groups else None
        if last and last[0] == temperature and last[1][-1] == index - 1 and len(last[1]) < slots:
            last[1].append(index)
        else:
            groups.append((temperature, [index]))
    return sorted(groups, key=lambda group: len(group[1]))


def body_of(
    request: Request, prompt: Prompt | None, temperature: float, indices: Sequence[int]
) -> dict[str, Any]:
    """What is posted for samples of consecutive indices; without a prompt it is for the chat route,
    which knows tools.
    """
    body: dict[str, Any] = {
        "n_predict": request.max_tokens,
        "temperature": temperature,
        "top_k": request.top_k,
        "top_p": request.top_p,
        "min_p": request.min_p,
        "samplers": [
            *(["penalties"] if request.penalised else []),
            *(["top_k"] if request.top_k else []),
            *("temperature", "top_p", "min_p"),
        ],
        "seed": _seed(request.seed, indices[0]),
        "cache_prompt": True,
        "return_tokens": True,
    }
    if request.penalised:
        body |= {
            "repeat_last_n": _PENALISED,
            "repeat_penalty": request.repetition_penalty,
            "frequency_penalty": request.frequency_penalty,
            "presence_penalty": request.presence_penalty,
        }
    if request.logit_bias:
        body["logit_bias"] = [list(pair) for pair in request.logit_bias.items()]
    if prompt is not None:
        body["prompt"] = prompt
    if len(indices) > 1:
        body["n_cmpl"] = len(indices)
    if request.stop:
        body["stop"] = list(request.stop)
    if request.options:
        body["grammar"] = one_of(request.options)
    if request.logprobs is not None:
        known = {"n_probs": max(1, request.logprobs)}  # of the chat route: its own names for it
        body |= (
            known
            if prompt is not None
            else {"logprobs": True, "top_logprobs": max(1, request.logprobs)}
        )
    return {**body, **request.extra}


def messages_of(request: Request) -> dict[str, Any]:
    """The messages and tools of a request."""
    messages = [{**message, "content": content_of(message)} for message in request.messages]
    tools = {"tools": [dict(tool) for tool in request.tools]} if request.tools else {}
    return {"messages": messages, **tools}


def _seed(seed: int, index: int) -> int:
    """llama.cpp adds 1 to the seed for each further sample of a request, so consecutive indices
    have consecutive seeds.
    """
    base = int.from_bytes(hashlib.sha256(f"llama:{seed}".encode()).digest()[:4], "little")
    return (base + index) % _NO_SEED


def choice_of(row: Mapping[str, Any]) -> tuple[UpstreamChoice, int]:
    """One choice and the tokens that were computed for it."""
    finish: Finish = "length" if row.get("stop_type") == "limit" else "stop"
    return UpstreamChoice(row["content"], finish, _shown(row, row["content"], _spelled(row))), int(
        row["tokens_predicted"]
    )


def _spelled(row: Mapping[str, Any]) -> list[Token]:
    return [
        {name: token[name] for name in _TOKEN if name in token}
        for token in row.get("completion_probabilities") or ()
    ]


def _named(tokens: list[Token], names: Sequence[str], text: str) -> list[Token]:
    """Tokens that were told together as one text, by their names. Of the first llama.cpp knows the
    last byte alone where it ends a character: it has what the others leave.
    """
    if not names:
        return tokens
    left = text
    for name in reversed(names[1:]):
        left = left.removesuffix(name) if left.endswith(name) else CUT
    names = names if CUT in left else [left, *names[1:]]
    spelled = zip(tokens, names, strict=False)
    return [{**one, "token": name, "bytes": list(name.encode())} for one, name in spelled]


def _shown(row: Mapping[str, Any], text: str, tokens: list[Token]) -> list[Token]:
    """The tokens without those of a stop string."""
    return list(tokens_within(tokens, text)) if row.get("stop_type") == "word" else tokens
