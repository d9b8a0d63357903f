"""Rows as token ids that fit a context: one unit a row, windows for the long ones, or many rows
packed into full contexts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pomona.data.scores.job import ChunkRows
from pomona.errors import PomonaError

if TYPE_CHECKING:
    from pomona.models import Codec
    from pomona.models.torch import Unit

PIECE = 1 << 20  # characters; a tokenizer takes about a hundred bytes a character while it works


@dataclass(frozen=True)
class Shares:
    """Which items a row consists of: `row`, `item` int64 `[k]` and the `weight` float64 `[k]` of
    the item in the row.
    """

    row: NDArray[np.int64]
    item: NDArray[np.int64]
    weight: NDArray[np.float64]

    @classmethod
    def of(cls, parts: Sequence[tuple[int, int, float]]) -> Shares:
        """From (row, item, weight) triples."""
        row, item, weight = zip(*parts, strict=True) if parts else ((), (), ())
        return cls(np.array(row, np.int64), np.array(item, np.int64), np.array(weight, np.float64))

    def mean(self, values: NDArray[np.float64], rows: int) -> NDArray[np.float64]:
        """Weighted mean of the items of each row, float64 `[rows]`; NaN for a row without any."""
        total = np.bincount(self.row, self.weight, rows)
        with np.errstate(invalid="ignore"):
            return np.bincount(self.row, self.weight * values[self.item], rows) / np.where(
                total > 0, total, np.nan
            )


@dataclass(frozen=True)
class Encoded:
    """A chunk as units, with the shares of rows in them; `length` int64 `[n]` counts the tokens of
    each text.

    `recalls` are prompts and the tokens that memory would continue them with, int32 arrays, and
    `recalled` the shares of rows in them.
    """

    units: list[Unit]
    shares: Shares
    length: NDArray[np.int64]
    recalls: list[tuple[np.ndarray, np.ndarray]]
    recalled: Shares


def encode(
    codec: Codec, rows: ChunkRows, *, context: int, packed: bool, memorize: tuple[int, int]
) -> Encoded:
    """Tokenise a chunk. A text begins with the tokenizer's start token where it has one; a
    completion ends with the end token.

    Without a start token the first token of a text has nothing to predict it and is not scored. A
    text of more than 2²⁰ characters is tokenised in pieces, each cut before a space.
    """
    start = codec.tokenizer.bos_token_id
    if rows.prompts is not None:
        return _pairs(codec, rows, rows.prompts, context, memorize[1], start)
    texts = token_ids(codec, rows.texts)
    lead = [] if start is None else [start]
    return (
        _packed(codec, texts, lead, context, memorize)
        if packed
        else _texts(texts, lead, context, memorize)
    )


def token_ids(codec: Codec, texts: Sequence[str]) -> list[np.ndarray]:
    """The tokens of each text without special ones, int32 arrays."""
    short = iter(codec.completions([text for text in texts if len(text) <= PIECE], end=False))
    return [
        np.array(next(short), np.int32)
        if len(text) <= PIECE
        else np.concatenate(
            [np.array(codec.completions([piece], end=False)[0], np.int32) for piece in pieces(text)]
        )
        for text in texts
    ]


def pieces(text: str) -> list[str]:
    """A text cut into pieces of at most PIECE characters, before spaces where there are any."""
    units, start = [], 0
    while len(text) - start > PIECE:
        space = text.rfind(" ", start + 1, start + PIECE + 1)
        stop = space if space > 0 else start + PIECE
        units.append(text[start:stop])
        start = stop
    return [*units, text[start:]]


def windows(ids: np.ndarray, first: int, context: int) -> list[Unit]:
    """Units of at most `context` tokens that score each token from index `first` on exactly once.

    Windows do not overlap; each but the first begins with the last token of the one before, which
    is read and not scored again. A prompt of more than half a context keeps only its end where
    prompt and completion do not fit together.
    """
    from pomona.models.torch import Unit

    if len(ids) <= first:
        return []
    if len(ids) > context and first > context // 2:
        ids, first = ids[first - context // 2 :], context // 2
    units = [Unit(ids[:context], first)]
    units += [
        Unit(ids[at - 1 : at - 1 + context], 1) for at in range(context, len(ids), context - 1)
    ]
    return units


def _texts(
    texts: list[np.ndarray], lead: list[int], context: int, memorize: tuple[int, int]
) -> Encoded:
    prompt, new = memorize
    units: list[Unit] = []
    parts, recalls, recalled = [], [], []
    for row, text in enumerate(texts):
        ids = np.concatenate([np.array(lead, np.int32), text])
        for unit in windows(ids, 1, context):
            parts.append((row, len(units), len(unit.ids) - unit.first))
            units.append(unit)
        if len(text) >= prompt + new:
            recalled.append((row, len(recalls), 1.0))
            at = len(lead) + prompt
            recalls.append((ids[:at], ids[at : at + new]))
    return Encoded(
        units,
        Shares.of(parts),
        np.array([len(text) for text in texts], np.int64),
        recalls,
        Shares.of(recalled),
    )


def _packed(
    codec: Codec, texts: list[np.ndarray], lead: list[int], context: int, memorize: tuple[int, int]
) -> Encoded:
    """Texts end to end, an end token after each, cut into contexts (Marion et al. 2023, §3): a row
    has a share in each unit it lies in.
    """
    prompt, new = memorize
    end = np.array([] if codec.end is None else [codec.end], np.int32)
    stream = np.concatenate(
        [np.array(lead, np.int32), *(part for text in texts for part in (text, end))]
    )
    owner = np.repeat(np.arange(len(texts)), [len(text) + len(end) for text in texts])
    owner = np.concatenate([np.full(len(lead), -1), owner])
    units, parts, recalls, recalled, at = windows(stream, 1, context), [], [], [], 1
    for index, unit in enumerate(units):
        scored = unit.ids[unit.first :]
        rows, counts = np.unique(owner[at : at + len(scored)], return_counts=True)
        shares = [(int(row), float(count)) for row, count in zip(rows, counts, strict=True)]
        parts += [(row, index, count) for row, count in shares]
        if len(scored) >= prompt + new:
            recalled += [(row, len(recalls), count) for row, count in shares]
            recalls.append((scored[:prompt], scored[prompt : prompt + new]))
        at += len(scored)
    return Encoded(
        units,
        Shares.of(parts),
        np.array([len(text) for text in texts], np.int64),
        recalls,
        Shares.of(recalled),
    )


def _prompt_ids(codec: Codec, rows: ChunkRows, prompts: Sequence[Any]) -> list[list[int]]:
    """The tokens of each prompt. Raises PomonaError naming the row whose messages the chat template
    refuses.
    """
    if all(isinstance(prompt, str) for prompt in prompts):
        return codec.prompts(prompts)
    done: list[list[int]] = []
    for index, prompt in enumerate(prompts):
        try:
            done += codec.prompts([prompt])
        except PomonaError as error:
            where, remedy = rows.where(index), error.remedy
            raise PomonaError(error.message, where=where, remedy=remedy) from error
    return done


def _pairs(
    codec: Codec, rows: ChunkRows, prompts: Sequence[Any], context: int, new: int, start: int | None
) -> Encoded:
    if start is None and not codec.chat and "" in prompts:
        message = (
            "the prompt is empty and the tokenizer has no start token, so nothing "
            "predicts the first token"
        )
        raise PomonaError(
            message,
            where=rows.where(prompts.index("")),
            remedy="give every prompt at least one token",
        )
    end = np.array([] if codec.end is None else [codec.end], np.int32)
    before, after = (
        _prompt_ids(codec, rows, prompts),
        [np.concatenate([text, end]) for text in token_ids(codec, rows.texts)],
    )
    units: list[Unit] = []
    parts, recalls = [], []
    for row, (prompt, completion) in enumerate(zip(before, after, strict=True)):
        for unit in windows(
            np.concatenate([np.array(prompt, np.int32), completion]), len(prompt), context
        ):
            parts.append((row, len(units), len(unit.ids) - unit.first))
            units.append(unit)
        recalls.append((np.array(prompt, np.int32)[new - context :], completion[:new]))
    length = np.array([len(completion) - len(end) for completion in after], np.int64)
    own = np.arange(len(recalls))
    return Encoded(units, Shares.of(parts), length, recalls, Shares(own, own, np.ones(len(own))))
