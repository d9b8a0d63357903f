"""Embedding rows matched by token: every model's vocabulary tensors brought to the rows of the
result's tokenizer, by mergekit's rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError, nearest
from pomona.merge.checkpoints.view import Stored
from pomona.merge.preparing.blocks import Made, Rows, encode_finite, row_blocks, to_float32
from pomona.merge.preparing.tokenizer import Tokenizer

AVERAGE, ZERO = -2, -1


@dataclass(frozen=True)
class Alignment:
    """For each row of the result: where each model has it, and what stands in for models without
    it.

    own[model][row]: the model's row for it, −1 where it has none. donor[row]: place of the model
    whose row stands in, ZERO, or AVERAGE of those who have it; donor_row[row]: that model's row.
    forced[row]: the stand-in is for all models. Rows from `filled` on are padding: the mean of the
    others.
    """

    models: tuple[str, ...]
    own: tuple[NDArray[np.int64], ...]
    donor: NDArray[np.int64]
    donor_row: NDArray[np.int64]
    forced: NDArray[np.bool_]
    filled: int

    @property
    def rows(self) -> int:
        """Rows of the result."""
        return len(self.donor)

    def same(self, model: int, rows: int) -> bool:
        """Whether a model of so many rows already has exactly the result's rows."""
        return (
            rows == self.rows == self.filled
            and not self.forced.any()
            and np.array_equal(self.own[model], np.arange(rows))
        )


def align(
    result: Tokenizer,
    vocabularies: Mapping[str, Mapping[str, int]],
    rows: Mapping[str, int],
    *,
    base: str | None,
    owner: str | None = None,
    tokens: Mapping[str, Mapping[str, Any]],
    multiple: int | None = None,
) -> Alignment:
    """Match rows by token.

    vocabularies: per model token → id. rows: per model the rows of its embedding; ids from there on
        count as absent.
    A token a model lacks gets the row of the only model that has it, else the base's, else the mean
    of those who have it; zero when none has it. `tokens` overrides this by token: {"source": model
    | {"kind": "zero"} | {"kind": "model_token", …}, "force": bool}; with force all models get that
    row. `multiple`: rows are padded to a multiple with the mean row. owner: the model the result's
    ids are of; rows among them that have no token are its own.
    Raises PomonaError for sources that are no models of the merge, or lack the token.
    """
    models = tuple(vocabularies)
    filled = max(len(result.vocab), max(result.vocab.values(), default=-1) + 1)
    total = -(-filled // multiple) * multiple if multiple else filled
    own = [np.full(total, -1, np.int64) for _ in models]
    for place, model in enumerate(models):
        known, limit = vocabularies[model], rows[model]
        for text, row in result.vocab.items():
            index = known.get(text, -1)
            if index < limit:
                own[place][row] = index
    if owner in models:
        spare = np.setdiff1d(
            np.arange(min(filled, rows[owner])),
            np.fromiter(result.vocab.values(), np.int64, len(result.vocab)),
        )
        own[models.index(owner)][spare] = spare
    forced = np.zeros(total, bool)
    donor, donor_row = _donors(own, models.index(base) if base in models else None)
    for text, rule in tokens.items():
        row = result.vocab[text]
        if rule.get("source") is not None:
            donor[row], donor_row[row] = _source(text, rule["source"], models, vocabularies, rows)
        forced[row] = bool(rule.get("force"))
    return Alignment(models, tuple(own), donor, donor_row, forced, filled)


def _donors(
    own: Sequence[NDArray[np.int64]], base: int | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    table = np.stack(own)
    count = (table >= 0).sum(0)
    donor = np.where(count == 0, ZERO, AVERAGE)
    donor = np.where(count == 1, (table >= 0).argmax(0), donor)
    if base is not None:
        donor = np.where((count > 1) & (table[base] >= 0), base, donor)
    return donor, np.take_along_axis(table, np.maximum(donor, 0)[None], 0)[0]


def _source(
    text: str,
    source: Any,
    models: Sequence[str],
    vocabularies: Mapping[str, Mapping[str, int]],
    rows: Mapping[str, int],
) -> tuple[int, int]:
    where = f'tokenizer: tokens: "{text}"'
    rule: Mapping[str, Any] = (
        source
        if isinstance(source, Mapping)
        else {"kind": "model_token", "model": source, "token": text}
    )
    if rule.get("kind") == "zero":
        return ZERO, 0
    model = str(rule.get("model"))
    if model not in models:
        raise PomonaError(
            f'its source "{model}" is not merged', where=where, remedy=nearest(model, models)
        )
    row = rule.get("token_id")
    if row is None:
        row = vocabularies[model].get(rule["token"], -1)
    if not 0 <= row < rows[model]:
        wanted = f"id {row}" if rule.get("token_id") is not None else f'token "{rule["token"]}"'
        raise PomonaError(
            f'"{model}" has no row for {wanted}',
            where=where,
            remedy="name a model that has it, or {kind: zero}",
        )
    return models.index(model), int(row)


def aligned(alignment: Alignment, tensors: Sequence[Stored], model: int, dtype: str) -> Made:
    """One model's vocabulary tensor with the result's rows, in `dtype`. `tensors`: the same tensor
    of every model (rows × anything).

    Rows are copied; means are taken in float32 and rounded once. Raises PomonaError when tensors
    differ in what is not the vocabulary.
    """
    first = tensors[model]
    for other in tensors:
        if other.shape[1:] != first.shape[1:]:
            message = (
                f'"{other.name}" is {list(other.shape)} and {list(first.shape)} in '
                f"{first.folder}: only rows may differ"
            )
            raise PomonaError(message, where=other.folder, remedy="merge models of one width")
    shape = (alignment.rows, *first.shape[1:])
    return Made(dtype, shape, lambda: _blocks(alignment, tensors, model, dtype))


def _blocks(
    alignment: Alignment, tensors: Sequence[Stored], model: int, dtype: str
) -> Iterator[bytes]:
    models = [Rows(stored) for stored in tensors]
    width = models[0].shape[1]
    plain = all(stored.dtype == dtype for stored in tensors)
    pads = alignment.rows > alignment.filled
    total = np.zeros(width)
    for rows in row_blocks(alignment.filled, width):
        lacking = (alignment.own[model][rows] < 0) | alignment.forced[rows]
        if plain and not (lacking & (alignment.donor[rows] == AVERAGE)).any():
            copied = _rows(alignment, models, model, rows, Rows.stored)
            total += to_float32(copied, dtype).sum(0, dtype=np.float64) if pads else 0
            yield copied.tobytes()
        else:
            block = _rows(alignment, models, model, rows, Rows.float32)
            total += block.sum(0, dtype=np.float64)
            yield encode_finite(block, dtype, tensors[model].name, tensors[model].folder)
    mean = (total / max(1, alignment.filled)).astype(np.float32)
    for rows in row_blocks(alignment.rows - alignment.filled, width):
        block = np.tile(mean, (rows.stop - rows.start, 1))
        yield encode_finite(block, dtype, tensors[model].name, tensors[model].folder)


def _rows(
    alignment: Alignment,
    models: Sequence[Rows],
    model: int,
    rows: slice,
    read: Callable[[Rows, NDArray[np.int64]], NDArray[Any]],
) -> NDArray[Any]:
    own, donor = alignment.own[model][rows], alignment.donor[rows]
    mine = (own >= 0) & ~alignment.forced[rows]
    if mine.all():
        return read(models[model], own)
    first = read(models[model], own[mine])
    out = np.zeros((len(own), first.shape[1]), first.dtype)
    out[mine] = first
    for place, other in enumerate(models):
        given = ~mine & (donor == place)
        if given.any():
            out[given] = read(other, alignment.donor_row[rows][given])
    mean = np.flatnonzero(~mine & (donor == AVERAGE))
    if len(mean):
        known = [array[rows][mean] for array in alignment.own]
        for other, indices in zip(models, known, strict=True):
            out[mean[indices >= 0]] += read(other, indices[indices >= 0])
        out[mean] /= (np.stack(known) >= 0).sum(0, dtype=np.float32)[:, None]
    return out
