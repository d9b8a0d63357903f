"""The logits that llama.cpp computes for given text. Its server tells none, so the C functions in
the library of `xllamacpp` are called directly.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int8, c_int32, c_uint32, c_void_p
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models.checkpoint import fingerprint, require
from pomona.models.locating import gguf_header

_LONGEST_PIECE = 1 << 10  # bytes that a token spells
_AT_ONCE = 512  # tokens in one call: llama.cpp's own `n_ubatch`
_DEFAULTS = [512, 2048, 512, 1]  # n_ctx, n_batch, n_ubatch and n_seq_max
_REMEDY = "install the version of requirements.lock, or give a device: torch then runs the file"


class _Parameters(ctypes.Structure):
    # Of the library's structures of settings only the beginning is known here, and that they are
    # shorter than this: what a call reads of it is what its own defaults wrote there.
    _fields_ = [("first", c_uint32 * 4), ("rest", c_int8 * 496)]


class _Batch(ctypes.Structure):
    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", c_void_p),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)
_silent = _LOG(lambda *_: None)  # kept here: the library calls it for ever
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "llama_log_set": (None, [_LOG, c_void_p]),
    "llama_backend_init": (None, []),
    "llama_context_default_params": (_Parameters, []),
    "llama_model_default_params": (_Parameters, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, _Parameters]),
    "llama_model_free": (None, [c_void_p]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_init_from_model": (c_void_p, [c_void_p, _Parameters]),
    "llama_free": (None, [c_void_p]),
    "llama_set_n_threads": (None, [c_void_p, c_int32, c_int32]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_batch_init": (_Batch, [c_int32, c_int32, c_int32]),
    "llama_batch_free": (None, [_Batch]),
    "llama_decode": (c_int32, [c_void_p, _Batch]),
    "llama_get_logits": (POINTER(c_float), [c_void_p]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_bos": (c_int32, [c_void_p]),
    "llama_vocab_eos": (c_int32, [c_void_p]),
    "llama_vocab_get_add_bos": (c_bool, [c_void_p]),
    "llama_tokenize": (
        c_int32,
        [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool],
    ),
    "llama_token_to_piece": (c_int32, [c_void_p, c_int32, c_char_p, c_int32, c_int32, c_bool]),
}


@cache
def _library() -> Any:
    """The C functions. Raises PomonaError where the installed library has them not, or others."""
    require("xllamacpp", extra="gguf")
    import xllamacpp.xllamacpp as home

    library = ctypes.CDLL(str(home.__file__))
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name, None)
        if function is None:
            raise PomonaError(f"xllamacpp has no {name}", remedy=_REMEDY)
        function.restype, function.argtypes = result, arguments
    library.llama_log_set(_silent, None)
    library.llama_backend_init()
    if list(library.llama_context_default_params().first) != _DEFAULTS:
        raise PomonaError("the settings of this xllamacpp are laid out otherwise", remedy=_REMEDY)
    return library


class LlamaLogits:
    """A GGUF file in llama.cpp that is given token ids: it computes what every other program of
    llama.cpp does with it, activations rounded as there. Closing it frees its memory.

    context: the most tokens that the model was trained for; None where the file does not say.
    prefix: the token before a text's first; None where the vocabulary has none.
    adds_prefix: whether a text as such begins with it.
    """

    def __init__(self, file: Path, *, context: int, threads: int = 1) -> None:
        """Raises PomonaError where the file is no whole GGUF file, or llama.cpp cannot load it."""
        metadata, _ = gguf_header(file)
        trained = metadata.get(f"{metadata.get('general.architecture')}.context_length")
        self.context: int | None = int(trained) if trained else None
        self._library, self.version = _library(), version("xllamacpp")
        library = self._library
        self.identity = f"llama.cpp:{fingerprint(file)}"
        failed = PomonaError(
            "llama.cpp cannot load it", where=file, remedy="is the file whole, and memory enough?"
        )
        self._model = library.llama_model_load_from_file(
            str(file).encode(), library.llama_model_default_params()
        )
        self._state = self._batch = None
        if not self._model:
            raise failed
        settings = library.llama_context_default_params()
        settings.first[0] = self._room = max(context, _DEFAULTS[0])
        self._state = library.llama_init_from_model(self._model, settings)
        if not self._state:
            self.close()
            raise failed
        library.llama_set_n_threads(self._state, threads, threads)
        self._memory = library.llama_get_memory(self._state)
        self._batch = library.llama_batch_init(_AT_ONCE, 0, 1)
        self._vocabulary = library.llama_model_get_vocab(self._model)
        self.vocabulary: int = library.llama_vocab_n_tokens(self._vocabulary)
        ends = [
            library.llama_vocab_bos(self._vocabulary),
            library.llama_vocab_eos(self._vocabulary),
        ]
        self.prefix: int | None = next((token for token in ends if token >= 0), None)
        self.adds_prefix: bool = library.llama_vocab_get_add_bos(self._vocabulary)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text without special tokens; what looks like one is text."""
        return [self._encoded(text.encode()) for text in texts]

    def _encoded(self, data: bytes) -> list[int]:
        room = len(data) + 16
        ids = (c_int32 * room)()
        count = self._library.llama_tokenize(
            self._vocabulary, data, len(data), ids, room, False, False
        )
        return list(ids[:count])

    def spelled(self, token: int) -> bytes:
        """The bytes of a token; special tokens spell nothing."""
        text = ctypes.create_string_buffer(_LONGEST_PIECE)
        size = self._library.llama_token_to_piece(
            self._vocabulary, token, text, _LONGEST_PIECE, 0, False
        )
        return text.raw[: max(size, 0)]

    def logits(
        self, ids: Sequence[int] | NDArray[np.integer], first: int, rows: int
    ) -> Iterator[NDArray[np.float32]]:
        """The logits that predict the tokens from index `first` (at least 1) on, `[≤ rows,
        vocabulary]` at a time; a block holds until the next is asked for. There may be one token
        more than `context`.
        """
        self._library.llama_memory_clear(self._memory, True)
        # The last token is read too where there is room, though nothing is scored by it: so does
        # `llama-perplexity`, and how many are read together changes the rounding.
        end = min(len(ids), self._room)
        for start in range(0, end, _AT_ONCE):
            part = ids[start : min(start + _AT_ONCE, end)]
            told = range(max(0, first - 1 - start), min(len(part), len(ids) - 1 - start))
            self._decode(part, start, told)
            if told:
                whole = np.ctypeslib.as_array(
                    self._library.llama_get_logits(self._state), (len(told), self.vocabulary)
                )
                for row in range(0, len(told), rows):
                    yield whole[row : row + rows]

    def _decode(self, ids: Sequence[int] | NDArray[np.integer], start: int, told: range) -> None:
        """Read tokens, and compute the logits at those of them that are `told`."""
        batch: Any = self._batch
        batch.n_tokens = len(ids)
        for at, token in enumerate(ids):
            batch.token[at], batch.pos[at] = int(token), start + at
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, 0
            batch.logits[at] = at in told
        code = self._library.llama_decode(self._state, batch)
        if code:
            remedy = "use a shorter context"
            raise PomonaError(f"llama.cpp fails with code {code}", remedy=remedy)

    def close(self) -> None:
        """Give back the memory."""
        if self._batch is not None:
            self._library.llama_batch_free(self._batch)
        if self._state:
            self._library.llama_free(self._state)
        if self._model:
            self._library.llama_model_free(self._model)
        self._model = self._state = self._batch = None
