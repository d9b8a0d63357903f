"""Drop rows that say the same as another: embeddings, clusters, a cosine.

SemDeDup (Abbas et al. 2023, arXiv 2303.09540, §3). Embeddings are the mean of a language model's
last hidden states. Only pairs within a cluster are compared, so near pairs on the two sides of a
border are missed; with `clusters=1` none is. Pairs over the threshold make components and one row
of each stays, whichever `keep` says. Components chain: a≈b and b≈c leave one, however far a is from
c.

How high a cosine means "the same" differs between models: look at `OUT.pairs.parquet` before you
trust a threshold. The embeddings lie in the work folder, 4 bytes × width a distinct text, block by
block as they are made: a run that was killed goes on from them, also with another threshold, number
of clusters, `keep` or seed. The folder is removed at the end.
"""

from __future__ import annotations

import functools
import hashlib
import math
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.duplicates.mapped import Kept
from pomona.data.inputs import Inputs, TextColumn, open_column, size_in_bytes, unheard
from pomona.data.work import results_of, stamps, work_at, work_of, write_kept
from pomona.errors import PomonaError, nearest
from pomona.models import Model, load
from pomona.records import Card, as_records, check_engine, filtered, format_of, spread
from pomona.workspace import Workspace

if TYPE_CHECKING:
    from pomona.data.duplicates.semantic_clusters import Likeness

BLOCK_ROWS, BLOCK_CHARACTERS = 1024, 4 << 20
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Maker:
    """A model, loaded or by its URI, how it is loaded, and where it runs."""

    model: str | Model
    device: str | None
    dtype: str | None
    memory: int
    engine: str

    def __post_init__(self) -> None:
        if self.engine != "native" and not isinstance(self.model, str):
            raise PomonaError(
                "a loaded model stays in this process",
                where="model",
                remedy="give its URI, or use the native engine",
            )

    @property
    def uri(self) -> str:
        """The URI of the model."""
        return self.model if isinstance(self.model, str) else self.model.uri

    def key(self) -> list[Any]:
        """What embeddings depend on: the model's files and how they are read; something new each
        time for a loaded model.

        Raises PomonaError when there is no such model.
        """
        if not isinstance(self.model, str):
            return [uuid.uuid4().hex]
        from pomona.models import locate

        files = sorted(file for file in locate(self.model).iterdir() if file.is_file())
        stamps = [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        return [stamps, self.device, self.dtype, BLOCK_ROWS]


@dataclass(frozen=True)
class _Block:
    """One job."""

    maker: Maker
    texts: list[str]


def owners(texts: TextColumn) -> Ints:
    """For each row the first row with the same text, int64 `[n]`."""
    digests = [
        hashlib.blake2b(text.as_buffer(), digest_size=16).digest()
        for batch in texts.texts()
        for text in batch
    ]
    keys = np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2)
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    new = np.append(True, (np.diff(keys[order], axis=0) != 0).any(axis=1))[: len(order)]
    owner = np.empty(len(order), np.int64)
    owner[order] = order[new][np.cumsum(new) - 1]
    return owner


def embedded(
    texts: TextColumn, owner: Ints, maker: Maker, kept: Kept, report: Callable[[int, int], None]
) -> Floats:
    """Unit embeddings of the rows that are their own owners, float32 `[distinct, hidden]`, in the
    file "vectors" of `kept`.

    Those that are there already are not made again.
    """
    total, file = int((owner == np.arange(len(owner))).sum()), kept.files["vectors"]
    blocks = (
        (_Block(maker, block) for block in _blocks(texts, owner, kept.rows))
        if kept.rows < total
        else iter(())
    )
    accelerated = maker.device is None or maker.device.startswith("cuda")
    try:
        for new in spread(_embed, blocks, maker.engine, accelerated=accelerated):
            file.append(
                new / np.maximum(np.linalg.norm(new, axis=1, keepdims=True), np.float32(1e-12))
            )
            kept.keep(kept.rows + len(new))
            report(kept.rows, total)
    finally:
        _loaded.cache_clear()
    return file.array(np.float32).reshape(total, -1 if total else 1)


def _blocks(texts: TextColumn, owner: Ints, start: int) -> Iterator[list[str]]:
    """The distinct texts from the `start`th on, the same blocks wherever one of them is begun
    with.
    """
    block: list[str] = []
    size = row = 0
    for batch in texts.texts():
        mine = np.flatnonzero(owner[row : row + len(batch)] == np.arange(row, row + len(batch)))
        new, start, row = mine[start:], max(0, start - len(mine)), row + len(batch)
        for text in batch.take(pa.array(new)).to_pylist():
            if block and (len(block) == BLOCK_ROWS or size + len(text) > BLOCK_CHARACTERS):
                yield block
                block, size = [], 0
            block.append(text)
            size += len(text)
    if block:
        yield block


def _embed(block: _Block) -> Floats:
    from pomona.models.torch import mean_states

    maker = block.maker
    model = (
        _loaded(maker.model, maker.device, maker.dtype, maker.memory)
        if isinstance(maker.model, str)
        else maker.model
    )
    return mean_states(model, block.texts)


@functools.lru_cache(maxsize=1)
def _loaded(uri: str, device: str | None, dtype: str | None, memory: int) -> Model:
    from pomona.models import load

    return load(uri, need={"states"}, device=device, dtype=dtype, memory=memory)


Keep = Literal["far", "near", "first", "none"]
_IDENTICAL, _SIMILAR = "identical text", "similar text"
_ALL_PAIRS = 4096
Report = Callable[[int, int], None]


def embeddings(
    model: str | Model,
    texts: Sequence[str],
    *,
    device: str | None = None,
    dtype: str | None = None,
    memory: int | None = None,
) -> NDArray[np.float32]:
    """The mean of the last hidden states over all tokens of each text, float32 `[n, hidden]`, not
    normalised.

    `model` is a URI or a loaded model; the other options are those of `pomona.models.load`. Texts
    longer than the context go through in windows. Raises PomonaError for an empty text, and for a
    model that gives no hidden states.
    """
    for row, text in enumerate(texts):
        if not text:
            raise PomonaError(
                "is empty", where=f"text {row + 1}", remedy="drop rows without text first"
            )
    loaded = (
        load(model, need={"states"}, device=device, dtype=dtype, memory=memory)
        if isinstance(model, str)
        else model
    )
    from pomona.models.torch import mean_states

    return mean_states(loaded, texts)


def dedup_semantic(
    inputs: Inputs,
    out: str | Path,
    *,
    column: str = "text",
    model: str | Model = "ui-s",
    threshold: float = 0.95,
    clusters: int | None = None,
    keep: Keep = "far",
    device: str | None = None,
    dtype: str | None = None,
    seed: int = 0,
    memory: int | str = "1GiB",
    engine: str | None = "native",
    work: str | Path | None = None,
    dry_run: bool = False,
    progress: Report | None = None,
) -> Card:
    """Write the rows of `inputs` to `out` without those whose text is the same as, or has a cosine
    ≥ `threshold` with, one that stays.

    model: a URI or a loaded model (with which a killed run begins anew). clusters: None is 1 up to
        4,096 distinct texts, which compares all pairs, and √n beyond.
    keep: of similar rows the one "far" from the cluster's centre (the paper's choice), "near" it,
        or the "first". Of identical rows always the first. With "none" all that are like another
        go. seed: of the clustering.
    memory: what batches and blocks may take beside the model's weights; about 60 bytes a row and 64
        vectors a cluster come on top, and pages of the embeddings, which the system takes back when
        it needs them. work: folder that a killed run continues from (default: a hidden one beside
        `out`). progress: distinct texts embedded, and in all.
    engine: "native", or "ray": workers embed, a block of texts a job, each with the model of this
        URI loaded once.

    `OUT.pairs.parquet` has a line for each row that went: row, the row kept for it (null where
    none is), its most similar row, their cosine, and the reason. Rows are numbered from 0 over all
    inputs. Raises PomonaError for a missing column, a null or empty text (file and row), a setting
    out of range, or a model without hidden states; ResourceError on a full disk.

    Args:
        model: Model of the embeddings.
        clusters: Number of clusters.
        device: cpu, cuda, ...
        memory: substring, semantic: memory to stay within, such as 1GiB.
    """
    _check(threshold, clusters, keep)
    format_of(str(out))
    limit = size_in_bytes(memory)
    records = open_column(inputs, column, may_be_empty=False)
    texts = TextColumn(records, column, may_be_empty=False)
    maker = Maker(model, device, dtype, limit // 2, check_engine(engine))
    owner = owners(texts)
    distinct = np.flatnonzero(owner == np.arange(len(owner)))
    count = clusters or (1 if len(distinct) <= _ALL_PAIRS else round(math.sqrt(len(distinct))))
    count = max(1, min(count, len(distinct)))
    asked = {"column": column, "model": maker.uri, "threshold": threshold}
    plan = {"model": maker.key(), "column": column, "inputs": stamps(texts.records)}
    files = {"out": out, "pairs": f"{out}.pairs.parquet"}
    with (
        results_of([texts.records], files, work=work_of(out, work), dry_run=dry_run) as results,
        work_at(out, work, dry_run) as root,
        Workspace(root, plan).resumed() as folder,
        Kept(folder, ["vectors"]) as kept,
    ):
        vectors = embedded(texts, owner, maker, kept, progress or unheard)
        likeness, kept_of = _decide(vectors, distinct, threshold, count, keep, seed, limit)
        stays = _staying(owner, distinct, kept_of, likeness if keep == "none" else None)
        pairs = _pairs(owner, distinct, stays, None if keep == "none" else kept_of, likeness)
        identical = pairs["reason"].to_pylist().count(_IDENTICAL)
        card = Card(
            operation="dedup_semantic",
            parameters=asked | {"clusters": count, "keep": keep, "seed": seed, "dtype": dtype},
            inputs=texts.inputs,
            rows_in=len(owner),
            rows_out=int(stays.sum()),
            removed={
                _IDENTICAL: identical,
                _SIMILAR: len(pairs) - identical,
            },
            details={"distinct_texts": len(distinct), "hidden": vectors.shape[1], "memory": limit},
            left_out=records.rejected,
        )
        if not dry_run:
            results.write("pairs", as_records(pairs))
            write_kept(results, out, texts.records, lambda rows: filtered(rows, stays))
            card = results.publish(card)
    return card


def _check(threshold: float, clusters: int | None, keep: str) -> None:
    if not 0 < threshold <= 1:
        raise PomonaError(
            f"{threshold} is not a cosine above 0 and up to 1",
            where="threshold",
            remedy="0.95 is a start",
        )
    if clusters is not None and clusters < 1:
        raise PomonaError(
            f"{clusters} clusters hold no rows",
            where="clusters",
            remedy="use 1 or more, or leave it out",
        )
    if keep not in get_args(Keep):
        remedy = nearest(keep, get_args(Keep))
        raise PomonaError(f'"{keep}" is unknown', where="keep", remedy=remedy)


def _decide(
    vectors: NDArray[np.float32],
    distinct: Ints,
    threshold: float,
    count: int,
    keep: str,
    seed: int,
    memory: int,
) -> tuple[Likeness, Ints]:
    """What is like what, and for each distinct text the one that is kept for it, int64
    `[distinct]`.
    """
    from pomona.data.duplicates.semantic_clusters import alike, assign, centres_of

    block = max(
        16, min(2048, math.isqrt(memory // 128), memory // 32 // (4 * max(count, vectors.shape[1])))
    )
    centres = (
        centres_of(vectors, count, seed, block)
        if len(vectors)
        else np.zeros((1, vectors.shape[1]), np.float32)
    )
    clusters, cosine = assign(vectors, centres, block)
    likeness = alike(vectors, clusters, threshold, block)
    rank = {"far": cosine, "near": -cosine}.get(keep, np.zeros(len(cosine)))
    order = np.lexsort((np.arange(len(rank)), rank, likeness.component))
    best = np.full(len(rank), -1, np.int64)
    leads = np.append(True, np.diff(likeness.component[order]) != 0)[: len(order)]
    best[likeness.component[order][leads]] = order[leads]
    return likeness, best[likeness.component]


def _staying(
    owner: Ints, distinct: Ints, kept_of: Ints, likeness: Likeness | None
) -> NDArray[np.bool_]:
    """Which rows stay: the one that is kept for each group, or with `likeness` those that are alone
    in theirs, bool `[n]`.
    """
    stays = np.zeros(len(owner), np.bool_)
    if likeness is None:
        stays[distinct[kept_of]] = True
        return stays
    group = likeness.component[np.searchsorted(distinct, owner)]
    return np.bincount(group, minlength=len(distinct))[group] == 1


def _pairs(
    owner: Ints, distinct: Ints, stays: NDArray[np.bool_], kept_of: Ints | None, likeness: Likeness
) -> pa.Table:
    place = np.searchsorted(distinct, owner)
    gone = np.flatnonzero(~stays)
    copies = np.flatnonzero(owner != np.arange(len(owner)))
    other = owner.copy()
    other[owner[copies][::-1]] = copies[::-1]  # of the first of equal rows the second
    texts = np.bincount(likeness.component, minlength=len(distinct))[likeness.component]
    copy = (owner[gone] != gone) | (texts[place[gone]] == 1)
    near = distinct[likeness.neighbour[place[gone]]] if len(gone) else gone
    columns = {
        "row": gone,
        "kept": None if kept_of is None else distinct[kept_of[place[gone]]],
        "neighbour": np.where(copy, other[gone], near),
        "cosine": np.where(copy, np.float32(1), likeness.cosine[place[gone]]),
        "reason": np.where(copy, _IDENTICAL, _SIMILAR).astype(object),
    }
    return pa.table(
        {
            name: pa.nulls(len(gone), pa.int64())
            if values is None
            else pa.array(values, pa.string() if name == "reason" else None)
            for name, values in columns.items()
        }
    )
