"""What of llama.cpp runs in this process: its own server, started for one GGUF file, and the
grammars that it follows. Its server ignores one that it cannot read, without a word, so the C
functions of llguidance in the library of `xllamacpp` are asked before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import POINTER, c_bool, c_char_p, c_int8, c_int32, c_size_t, c_uint32, c_void_p
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.models.schemas import NO_ANSWER

_QUIET = -1
_BATCH = 2048
_LONGEST = 2000  # bytes of a reason
_END = b"\xffend"
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llg_new_tokenizer": (c_void_p, [c_void_p, c_char_p, c_size_t]),
    "llg_constraint_init_set_defaults": (None, [c_void_p, c_void_p]),
    "llg_new_matcher": (c_void_p, [c_void_p, c_char_p, c_char_p]),
    "llg_free_matcher": (None, [c_void_p]),
    "llg_matcher_get_error": (c_char_p, [c_void_p]),
    "llg_matcher_compute_mask": (c_int32, [c_void_p]),
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
    tokens = (c_uint32 * len(spelled))(*spelled)
    with _matching(grammar) as (library, matcher):
        failed = library.llg_matcher_consume_tokens(matcher, tokens, len(spelled))
        return not failed and (not whole or library.llg_matcher_is_accepting(matcher))


def one_of(options: Sequence[str]) -> str:
    """The grammar of llama.cpp's own whose answers are these texts."""
    return "root ::= " + " | ".join(map(_literal, options))


def _literal(text: str) -> str:
    """A string as GBNF writes it."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return '"' + "".join(escapes.get(letter, letter) for letter in text) + '"'
