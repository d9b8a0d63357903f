"""Two models on the same text, token by token: both read the same windows, what they know of the
next token is compared a block at a time, and no logits are kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from pomona import stats
from pomona.errors import PomonaError, quantity
from pomona.forget.divergence.cache import CachedSide, keeping
from pomona.forget.divergence.figures import Figures, Log, corrected
from pomona.forget.divergence.measures import losses, measured
from pomona.forget.divergence.page import check_page, write_page
from pomona.forget.divergence.result import Divergence
from pomona.forget.divergence.sides import ServerSide, Side, files_of, is_server, open_side
from pomona.forget.divergence.texts import (
    Document,
    Documents,
    halves,
    streams,
    windows as windows_of,
)
from pomona.models.torch import Unit
from pomona.places import check_outputs
from pomona.records import Where

_BLOCK_BYTES = 1 << 25  # logits of one side that are there at once
_CHUNK = 1 << 14  # letters of the documents that are read together


def compare_models(
    a: str,
    b: str,
    *,
    text: Where,
    group: str | None = None,
    cluster: str | None = None,
    windows: Literal["documents", "llama.cpp"] = "documents",
    context: int = 512,
    stride: int | None = None,
    device: str | None = None,
    dtype: str | None = None,
    threads: int = 1,
    cache: str | Path | None = None,
    page: str | Path | None = None,
    resamples: int = 2000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Divergence:
    """Compare two models on a text, token by token: how far B's next-token distributions are from
    A's, and what that costs, overall and by group.

    Both must have the same tokenizer; with others only bits per byte are told, and why. GGUF files
    run in llama.cpp, which rounds activations as it always does, or in torch where `device` or
    `dtype` is given.

    Args:
        a: The model before the change: hf:PATH_OR_ID, a folder, gguf:PATH, a name of the catalogue.
        b: The model after it.
        text: Table with the column text, or prompt and completion, of which the completion is
            scored; or a plain text file (.txt), whose paragraphs are documents.
        group: Column of groups; "group" if left out, where there is one.
        cluster: Column of what documents share, such as their source: these are resampled
            together. "cluster" if left out, where there is one.
        windows: Of documents every token is scored; llama.cpp joins the texts of a group, cuts
            them into chunks of `context` tokens and scores the second half of each, as
            `llama-perplexity` does.
        context: Most tokens that are read at once.
        stride: Tokens that a window of a longer document scores, the others being what comes
            before; `context` if left out.
        device: For torch: cpu, cuda, cuda:1.
        dtype: For torch: float32, bfloat16, float16.
        threads: Processor threads.
        cache: File for what A says: of each position its 64 likeliest tokens and the mass of the
            others. Where it is there, A is not run, and KL has bounds instead of a value.
        page: Folder to write a page into: every group, and the documents that are farthest apart.
        resamples: Resamples behind each interval.
        seed: Seed of the resamples.
        progress: Called with the number of documents done and in all.

    Raises:
        PomonaError: a model or the text cannot be read, a column is missing, there is nothing to
            score, or a setting is out of range.
    """
    stride = context if stride is None else stride
    cache, page = (None if path is None else Path(path) for path in (cache, page))
    _check(windows, context, stride, threads)
    texts = Documents(text, group, cluster, whole=windows == "llama.cpp")
    kept = cache is not None and os.path.lexists(cache)
    outputs = {"--cache": None if kept else cache, "--page": page}
    inputs = [*texts.paths, *([cache] if kept and cache else []), *files_of(a), *files_of(b)]
    check_outputs(outputs, inputs, folders=["--page"])
    if page is not None:
        check_page(page)
    with ExitStack() as stack:
        stack.enter_context(_threads(threads))
        opener = partial(open_side, device=device, dtype=dtype, threads=threads, context=context)
        sides = _opened(a, b, opener, cache if kept else None)
        for side in sides:
            stack.callback(side.close)
            _check_context(side, context)
        reading = _Reading(*sides, windows, context, stride)
        if cache is not None and not kept:
            reading.keep = stack.enter_context(keeping(cache, sides[0]))
        reading.read(texts, progress)
        result = reading.result(texts, resamples, seed)
    if page is not None:
        write_page(result, page)
    return result


def _opened(a: str, b: str, opener: Callable[[str], Side], kept: Path | None) -> tuple[Side, Side]:
    """Both sides; what has no tokenizer of its own comes after the other."""
    if is_server(a) and is_server(b):
        remedy = "compare each with a model that is here and has the same tokenizer"
        raise PomonaError("two servers have no tokenizer here", where=f"{a}, {b}", remedy=remedy)
    if is_server(b):
        if kept is not None:
            remedy = "leave out the cache, or compare a model that is here"
            raise PomonaError("a server and a cache have no tokenizer", where=b, remedy=remedy)
        first = opener(a)
        return first, ServerSide(b, first)
    second = opener(b)
    if kept is not None:
        return CachedSide(kept, a, second), second
    return (ServerSide(a, second) if is_server(a) else opener(a)), second


def _check(windows: str, context: int, stride: int, threads: int) -> None:
    if windows not in ("documents", "llama.cpp"):
        remedy = 'use "documents" or "llama.cpp"'
        raise PomonaError(f'"{windows}" is unknown', where="windows", remedy=remedy)
    least = {"context": (context, 4), "threads": (threads, 1), "stride": (stride, 1)}
    for name, (value, smallest) in least.items():
        if value < smallest:
            raise PomonaError(f"is {value}", where=name, remedy=f"give at least {smallest}")
    if stride > context:
        message = f"is {stride:,}, and a window has {context:,} tokens"
        raise PomonaError(message, where="stride", remedy="give at most the context")


def _check_context(side: Side, context: int) -> None:
    if side.context is not None and context > side.context:
        message = f"reads {side.context:,} tokens at once, and the context is {context:,}"
        raise PomonaError(message, where=side.name, remedy="give a smaller context")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass
class _Part:
    """A window of one side, and the item whose tokens it scores."""

    unit: Unit
    item: int


class _Reading:
    """Reads all documents with both sides into a log."""

    def __init__(self, a: Side, b: Side, windows: str, context: int, stride: int) -> None:
        self._sides, self._windows = (a, b), windows
        self._context, self._stride = context, stride
        self._log, self._empty = Log(), 0
        self._rows = max(16, min(128, _BLOCK_BYTES // (4 * max(a.vocabulary, b.vocabulary))))
        self.keep: Callable[[Unit, torch.Tensor, Any], None] | None = None
        self.reason: str | None = None
        if a.vocabulary != b.vocabulary:
            self.reason = (
                f"{a.name} tells of {a.vocabulary:,} tokens and {b.name} of {b.vocabulary:,}"
            )

    def read(self, texts: Documents, progress: Callable[[int, int], None] | None) -> None:
        """Read all of it."""
        total, done = texts.count() if progress else 0, 0
        whole = self._windows == "llama.cpp"
        for chunk in _chunks(streams(texts) if whole else iter(texts)):
            self._chunk(chunk)
            done += len(chunk)
            if progress:
                progress(total if whole else done, total)

    def _chunk(self, chunk: Sequence[Document]) -> None:
        ids = [side.encode([d.text for d in chunk]) for side in self._sides]
        before = [side.encode([d.prompt for d in chunk]) for side in self._sides]
        if self.reason is None:
            self.reason = self._difference(chunk, ids) or self._difference(chunk, before)
        prefixes = [side.prefix for side in self._sides]
        if self.reason is None:  # the same tokens, so A's first will do for both
            prefixes = [prefixes[0], prefixes[0]]
        parts: tuple[list[_Part], list[_Part]] = ([], [])
        for at, document in enumerate(chunk):
            own = [(before[s][at], ids[s][at], prefixes[s]) for s in (0, 1)]
            self._lay_out(document, own, parts)
        for each in parts:  # long ones first: what is read together is then about as long
            each.sort(key=lambda part: (-len(part.unit.ids), part.item))
        if self.reason is None:
            self._together(parts[0])
        else:
            self._refuse_partial()
            self._apart(parts)

    def _refuse_partial(self) -> None:
        """Raise PomonaError where what is known of a side goes by the other one's tokens."""
        if self.keep is not None or isinstance(self._sides[0], CachedSide):
            remedy = "leave out the cache: only bits per byte can be compared"
            raise PomonaError(f"nothing can be kept: {self.reason}", remedy=remedy)

    def _difference(self, chunk: Sequence[Document], ids: Sequence[list[list[int]]]) -> str | None:
        for document, one, other in zip(chunk, *ids, strict=True):
            if one != other:
                a, b = (side.name for side in self._sides)
                return (
                    f"their tokenizers differ: row {document.row} has {len(one):,} tokens for {a} "
                    f"and {len(other):,} for {b}"
                    + (", and others" if len(one) == len(other) else "")
                )
        return None

    def _lay_out(
        self, document: Document, own: Sequence[Any], parts: tuple[list[_Part], list[_Part]]
    ) -> None:
        """The windows of a document under both sides, each with the item that it belongs to."""
        if self._windows == "llama.cpp":
            if self.reason is not None:
                remedy = "use windows of documents, which hold the same text for both"
                raise PomonaError(f"chunks of tokens differ: {self.reason}", remedy=remedy)
            self._chunks_of(document, own[0], parts[0])
            return
        laid = [self._sequence(side, *tokens) for side, tokens in enumerate(own)]
        if not all(len(ids) > first for ids, first, _ in laid):
            self._empty += 1
            return
        size = len(document.text.encode())
        sizes = [
            size if told else size - len(side.spelled(ids[0]))
            for side, (ids, _, told) in zip(self._sides, laid, strict=True)
        ]
        item = self._log.open(document, document.cluster, (sizes[0], sizes[1]))
        for (ids, first, _), each in zip(laid, parts, strict=True):
            units = windows_of(ids, first, self._context, self._stride)
            each += [_Part(unit, item) for unit in units]

    def _sequence(
        self, side: int, before: list[int], ids: list[int], prefix: int | None
    ) -> tuple[list[int], int, bool]:
        """The tokens of a document from its prefix on, the first that is scored, and whether that
        is the first of its text, which it is where anything comes before.
        """
        adds = not before or self._sides[side].adds_prefix
        start = ([prefix] if adds and prefix is not None else []) + before
        return start + ids, max(1, len(start)), bool(start)

    def _chunks_of(self, document: Document, own: Any, parts: list[_Part]) -> None:
        _, ids, prefix = own
        side = self._sides[0]
        prefix = prefix if side.adds_prefix else None
        ids = ids if prefix is None else [prefix, *ids]
        for unit in halves(ids, self._context, prefix):
            size = sum(len(side.spelled(token)) for token in unit.ids[unit.first :].tolist())
            item = self._log.open(document, None, (size, size))
            parts.append(_Part(unit, item))

    def _together(self, parts: Sequence[_Part]) -> None:
        units = [part.unit for part in parts]
        blocks = [side.blocks(units, self._rows) for side in self._sides]
        for part, targets in self._targets(parts):
            block_a, block_b = (next(side) for side in blocks)
            if self.keep is not None and isinstance(block_a, torch.Tensor):
                self.keep(part.unit, block_a, targets)
            self._log.add(part.item, measured(block_a, block_b, targets))

    def _apart(self, parts: Sequence[Sequence[_Part]]) -> None:
        for number, (side, own) in enumerate(zip(self._sides, parts, strict=True)):
            blocks = side.blocks([part.unit for part in own], self._rows)
            for part, targets in self._targets(own):
                loss = float(losses(next(blocks), targets).sum())
                self._log.add_loss(part.item, number, loss, len(targets))

    def _targets(self, parts: Sequence[_Part]) -> Iterator[tuple[_Part, Any]]:
        """The true tokens of each block, as `Side.blocks` cuts them."""
        for part in parts:
            ids, first = part.unit.ids, part.unit.first
            for start in range(first, len(ids), self._rows):
                yield part, ids[start : start + self._rows]

    def result(self, texts: Documents, resamples: int, seed: int) -> Divergence:
        """The figures of what was read."""
        log, first = self._log, self._sides[0]
        if isinstance(first, CachedSide):
            first.finish()
        if not log.rows:
            message = "there is nothing to score"
            if self._windows == "llama.cpp":
                message += f": no text has {self._context:,} tokens"
            raise PomonaError(message, where=texts.where, remedy="give more text")
        paired = self.reason is None
        figures = Figures(log, paired=paired, resamples=resamples, seed=seed)
        labels = [name for name in log.groups if name is not None]
        members = stats.rows_of(labels) if labels else {}
        changes = [figures.of(items) for items in members.values()]
        told = zip(changes, corrected(changes), strict=True)
        changes = [replace(change, **values) for change, values in told]
        a, b = self._sides
        return Divergence(
            a.name,
            b.name,
            figures.of(np.arange(len(log.rows))),
            dict(zip(members, changes, strict=True)),
            self._signature(texts, resamples, seed),
            seed,
            resamples,
            self.reason,
            self._notes(figures, paired=paired),
            self._documents(figures, paired=paired),
        )

    def _notes(self, figures: Figures, *, paired: bool) -> list[str]:
        notes = []
        if self.reason is not None:
            notes.append(f"Only bits per byte can be compared: {self.reason}.")
        if self._empty:
            notes.append(
                f"{quantity(self._empty, 'document has', 'documents have')} no token to score and "
                f"{'counts' if self._empty == 1 else 'count'} nowhere."
            )
        if paired and not figures.exact:
            notes.append(
                "Of one side only the likeliest tokens and the mass of the others are known, so "
                "that KL has bounds instead of a value."
            )
        units = len(set(figures.clusters))
        notes.append(
            f"Intervals and p_bootstrap resample {units:,} documents or clusters of them, p_metric "
            "is a t-test over these; p_mcnemar, and what is corrected of it, takes tokens as "
            "independent."
        )
        return notes

    def _documents(self, figures: Figures, *, paired: bool) -> pa.Table:
        log, losses_ = self._log, self._log.losses()
        sizes = np.maximum(np.array(log.bytes, np.float64), 1)
        columns: dict[str, Any] = {"row": log.rows, "group": log.groups, "text": log.texts}
        columns |= {"tokens_a": losses_[:, 1].astype(int), "tokens_b": losses_[:, 3].astype(int)}
        columns |= {"bytes": np.array(log.bytes)[:, 0]}
        bits = losses_[:, ::2] / np.log(2) / sizes
        columns |= {"bits_per_byte_a": bits[:, 0], "bits_per_byte_b": bits[:, 1]}
        if paired:
            sums = figures.sums
            columns["kl"] = sums["kl_low"] / sums["n"]
            columns |= {name: sums[name].astype(int) for name in ("lost", "gained")}
        return pa.table(columns)

    def _signature(self, texts: Documents, resamples: int, seed: int) -> str:
        a, b = self._sides
        labels = texts.labels
        parts = [
            "compare_models",
            f"a:{a.identity}",
            f"b:{b.identity}",
            f"a_runs:{a.runs}",
            f"b_runs:{b.runs}",
            f"windows:{self._windows}",
            f"context:{self._context}",
            *([] if self._windows == "llama.cpp" else [f"stride:{self._stride}"]),
            f"prefix:{a.prefix}",
            f"group:{labels.get('group', 'no')}",
            f"cluster:{labels.get('cluster', 'no')}",
            f"resamples:{resamples}",
            f"seed:{seed}",
            "interval:95",
            f"pomona:{version('pomona')}",
        ]
        return "|".join(parts)


def _chunks(documents: Iterator[Document]) -> Iterator[list[Document]]:
    """Documents that are read together."""
    chunk: list[Document] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += len(document.text) + len(document.prompt)
        if size >= _CHUNK:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
