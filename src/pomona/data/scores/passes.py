"""One look at a chunk: by a model, which gives all its scores from one pass over the tokens, or at
the text alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.quality import quality
from pomona.data.scores.job import ChunkRows
from pomona.data.scores.registry import Chosen, ScoreContext
from pomona.data.scores.units import Encoded, encode
from pomona.errors import PomonaError
from pomona.models import inference_flops, scoring_flops
from pomona.text import language_confidence, mtld, words_of

if TYPE_CHECKING:
    from pomona.models.torch import Probe

Floats = NDArray[np.float64]
_PER_TOKEN = {"perplexity", "el2n", "cat_var", "cat_diff"}


@dataclass(frozen=True)
class PassSettings:
    """What a model pass needs to know beside the scores. `memorize` is (prompt tokens, tokens to
    recall).
    """

    context: int
    packed: bool
    memorize: tuple[int, int]


def settle(
    probe: Probe,
    wanted: frozenset[str],
    context: int | None,
    packed: bool,
    memorize: tuple[int, int],
) -> PassSettings:
    """The settings for a model. Raises PomonaError when it cannot hold the context, or the context
    what is to be recalled.
    """
    limit = probe.context or 2048
    room = limit if context is None else context
    if not 2 <= room <= (probe.context or room):
        raise PomonaError(
            f"context is {room} tokens", where=probe.uri, remedy=f"use 2 to {limit:,}"
        )
    if "memorization" in wanted and (sum(memorize) > room or min(memorize) < 1):
        raise PomonaError(
            f"memorize is {memorize}",
            where=probe.uri,
            remedy=f"give two positive numbers, {room:,} tokens or less in all",
        )
    return PassSettings(room, packed, memorize)


def model_pass(
    probe: Probe,
    rows: ChunkRows,
    wanted: frozenset[str],
    settings: PassSettings,
    *,
    dry: bool = False,
) -> pa.Table:
    """Columns of a chunk under one model, null where a row is too short: length, tokens, flops and,
    as wanted,

    loss and error (means over the row's scored tokens), recall (share of tokens), gradient (a list
    of norms). `dry` only counts.
    """
    coded = encode(
        probe.codec,
        rows,
        context=settings.context,
        packed=settings.packed,
        memorize=settings.memorize,
    )
    n = len(rows)
    tokens = np.bincount(coded.shares.row, coded.shares.weight, n).astype(np.int64)
    columns: dict[str, pa.Array] = {"length": pa.array(coded.length), "tokens": pa.array(tokens)}
    columns["flops"] = pa.array(_flops(probe, coded, wanted, n))

    def add(name: str, values: Floats) -> None:
        columns[name] = pa.array(values, from_pandas=True)

    if dry:
        return pa.table(columns)
    if wanted & _PER_TOKEN:
        scored = probe.token_scores(coded.units)
        for name in ("loss", "error"):
            means = np.array([np.mean(getattr(unit, name), dtype=np.float64) for unit in scored])
            _finite(means, coded, rows, name, probe.uri)
            add(name, coded.shares.mean(means, n))
    if "memorization" in wanted:
        add("recall", coded.recalled.mean(_recall(probe, coded), n))
    if "vog" in wanted:
        slopes = probe.gradients(coded.units)
        _finite(
            np.array([slope.sum(dtype=np.float64) for slope in slopes]),
            coded,
            rows,
            "gradient",
            probe.uri,
        )
        columns["gradient"] = _lists(slopes, coded.shares.row, n)
    return pa.table(columns)


def text_pass(
    rows: ChunkRows, chosen: Chosen, context: Callable[[ChunkRows], ScoreContext]
) -> pa.Table:
    """Scores of the text alone, a column each; of a pair the completion's, and users' scores get
    the pair.
    """
    columns: dict[str, pa.Array] = {}
    if "length" in chosen.of_text:
        columns["length"] = pa.array([float(len(text)) for text in rows.texts])
    if "mtld" in chosen.of_text:
        columns["mtld"] = pa.array([mtld(words_of(text)) for text in rows.texts])
    if "language" in chosen.of_text:
        assert rows.langs is not None
        columns["language"] = pa.array(
            language_confidence(rows.texts, rows.langs), from_pandas=True
        )
    if chosen.of_quality:
        columns |= quality(rows.texts, chosen.of_quality, rows.langs)
    for name, user in chosen.users.items():
        given: Any = (
            rows.texts if rows.prompts is None else list(zip(rows.prompts, rows.texts, strict=True))
        )
        values = np.asarray(user(given, context(rows)), np.float64)
        if values.shape != (len(rows),):
            raise PomonaError(
                f"gave {values.shape} values for {len(rows)} rows",
                where=f'score "{name}"',
                remedy="return one number a row",
            )
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise PomonaError(
                f'the score "{name}" is {values[bad[0]]}',
                where=rows.where(int(bad[0])),
                remedy="return a finite number",
            )
        columns[name] = pa.array(values)
    return pa.table(columns)


def _recall(probe: Probe, coded: Encoded) -> Floats:
    """The share of tokens that free greedy generation repeats, place by place. Marion et al. 2023,
    §3.3; Biderman et al. 2023, §2.
    """
    shares = np.full(len(coded.recalls), np.nan)
    kept = [index for index, (_, target) in enumerate(coded.recalls) if len(target)]
    longest = max((len(coded.recalls[index][1]) for index in kept), default=0)
    answers = probe.greedy([coded.recalls[index][0] for index in kept], longest)
    for index, answer in zip(kept, answers, strict=True):
        target = coded.recalls[index][1]
        shares[index] = np.mean(answer[: len(target)] == target)
    return shares


def _flops(probe: Probe, coded: Encoded, wanted: frozenset[str], rows: int) -> Floats:
    """Floating-point operations of each row, float64 `[rows]`: its part of its units' passes, and
    of what is generated.
    """
    total = np.zeros(rows)
    first = np.array([unit.first for unit in coded.units])
    scored = np.array([len(unit.ids) for unit in coded.units]) - first
    passes = bool(wanted & _PER_TOKEN) + 2 * (
        "vog" in wanted
    )  # a gradient by the input alone costs a second pass
    if passes and len(scored):
        each = passes * scoring_flops(probe.shape, first, scored) / scored
        total += np.bincount(coded.shares.row, coded.shares.weight * each[coded.shares.item], rows)
    if "memorization" in wanted and coded.recalls:
        prompt, new = (np.array([len(recall[part]) for recall in coded.recalls]) for part in (0, 1))
        each = inference_flops(probe.shape, prompt, new)
        parts = (
            coded.recalled.weight
            / np.bincount(coded.recalled.item, coded.recalled.weight)[coded.recalled.item]
        )
        total += np.bincount(coded.recalled.row, parts * each[coded.recalled.item], rows)
    return total


def _finite(values: Floats, coded: Encoded, rows: ChunkRows, name: str, uri: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        row = int(coded.shares.row[coded.shares.item == bad[0]][0])
        remedy = "score with --dtype float32; if it stays so, the checkpoint is damaged"
        raise PomonaError(
            f"the {name} under {uri} is {values[bad[0]]}", where=rows.where(row), remedy=remedy
        )


def _lists(parts: Sequence[NDArray[np.float32]], owners: NDArray[np.int64], rows: int) -> pa.Array:
    """The parts of each row end to end, list<float>; rows ascend."""
    sizes = np.bincount(owners, [len(part) for part in parts], rows).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    values = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return pa.LargeListArray.from_arrays(
        pa.array(offsets, pa.int64()), pa.array(values, pa.float32())
    )
