"""A folder of passages that can be searched by words and by meaning."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pomona import records
from pomona.documents import read_json
from pomona.errors import PomonaError
from pomona.files import atomic_directory, check_ours, read_array, write_json
from pomona.models import Model, load, wait_for
from pomona.places import check_outputs
from pomona.text import search_terms
from pomona.workspace import disk_guard

if TYPE_CHECKING:
    from pomona.records import Where

_FORMAT = 1
_KIND = "an index"
_BATCH = 64
_K = 60  # of reciprocal rank fusion, as its authors have it
_DEPTH = 100  # how far each ranking goes into the fusion
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, pa.ArrowException, PomonaError)


@dataclass(frozen=True)
class Passage:
    """A passage that was found. `bm25` is 0 without a common word, `cosine` None without
    embeddings; `score` orders the results.
    """

    row: int
    text: str
    source: str | None
    score: float
    bm25: float
    cosine: float | None


class Index:
    """Passages in memory with a BM25 index and, where it was built with `embed`, a unit vector
    each. Safe to search from one event loop.
    """

    def __init__(self, path: str | Path) -> None:
        """Open what `build` wrote. A PomonaError when the folder is not an index of this version or
        a file of it is damaged.
        """
        import bm25s

        self.path = Path(path)
        try:
            self.about: dict[str, Any] = read_json(self.path / "index.json")
            if (given := self.about["format"]) != _FORMAT:
                raise ValueError(f"its format is {given}, this version reads {_FORMAT}")
            rows = pq.read_table(self.path / "passages.parquet")
            words, vectors = self.path / "bm25", None
            self._bm25: Any = bm25s.BM25.load(words, allow_pickle=False, show_progress=False)
            if self.about["embed"]:
                vectors = np.array(read_array(self.path / "vectors.npy"))
            sizes = (self.about["passages"], len(rows if vectors is None else vectors))
            if sizes != (rows.num_rows, rows.num_rows):
                raise ValueError("its files do not belong together")
        except _UNREADABLE as error:
            message, remedy = f"is no index that can be read: {error}", "build it with Index.build"
            raise PomonaError(message, where=path, remedy=remedy) from error
        self.texts: list[str] = rows["text"].to_pylist()
        self.sources: list[str | None] = rows["source"].to_pylist()
        self._vectors: NDArray[np.float32] | None = vectors
        self._embedder: Model | None = None
        self._opening = threading.Lock()

    @classmethod
    def build(
        cls,
        inputs: Where,
        column: str = "text",
        *,
        out: str | Path,
        source: str | None = None,
        embed: str | None = None,
        longest: int = 1200,
        progress: Callable[[int, int], None] | None = None,
    ) -> Index:
        """Index texts, for answers that look things up (--retrieve).

        `inputs` are a path, glob, list of them or table; the texts are cut into passages. What was
        at `out` stays until the end.

        Args:
            column: Column of the text.
            out: Folder of the index.
            source: Column that says where a text is from, such as its title; shown and searched
                too.
            embed: URI of a model whose embeddings are searched beside the words.
            longest: Most characters of a passage.
            progress: Called with (passages embedded, all passages).

        Raises:
            PomonaError: a column is missing, a text is null, or there is no text at all.
        """
        check_outputs({"the index": out}, records.read(inputs).paths, folders=["the index"])
        check_ours(Path(out), _KIND)
        passages = _passages(inputs, column, source, longest)
        texts = passages["text"].to_pylist()
        vectors, identity = wait_for(_embedded(embed, texts, progress)) if embed else (None, None)
        index = _index(texts, passages["source"].to_pylist())
        with disk_guard(out), atomic_directory(out, _KIND) as folder:
            index.save(folder / "bm25", show_progress=False, allow_pickle=False)
            pq.write_table(passages, folder / "passages.parquet")
            if vectors is not None:
                np.save(folder / "vectors.npy", vectors, allow_pickle=False)
            about = {
                "format": _FORMAT,
                "passages": len(texts),
                "longest": longest,
                "embed": embed,
                "identity": identity,
            }
            write_json(folder / "index.json", about)
        return cls(out)

    def __len__(self) -> int:
        return len(self.texts)

    async def search(
        self, query: str, k: int = 5, *, embedder: Model | None = None
    ) -> list[Passage]:
        """The `k` best passages, best first: by BM25, and with embeddings by reciprocal rank fusion
        of BM25 and cosine.

        embedder: the model the index was built with, where it is open already; otherwise the index
            opens it at the first search.
        """
        bm25, by_words = await asyncio.to_thread(self._by_words, query)
        cosine, ranked = None, [(row, float(bm25[row])) for row in by_words]
        if self._vectors is not None and len(self):
            model = await asyncio.to_thread(self.embedder, embedder)
            assert model is not None
            vector = (await model.vectors([query]))[0][0]
            cosine, near = await asyncio.to_thread(self._by_vectors, self._vectors, vector)
            ranked = fused([by_words, near])

        def passage(row: int, score: float) -> Passage:
            near = None if cosine is None else float(cosine[row])
            return Passage(row, self.texts[row], self.sources[row], score, float(bm25[row]), near)

        return [passage(row, score) for row, score in ranked[:k]]

    def _by_words(self, query: str) -> tuple[NDArray[np.float32], list[int]]:
        """The BM25 score of each passage, and the best ones."""
        ids = self._bm25.get_tokens_ids(search_terms(query))
        bm25 = self._bm25.get_scores_from_ids(ids) if ids else np.zeros(len(self), np.float32)
        return bm25, _best(bm25, _DEPTH, least=0.0)

    @staticmethod
    def _by_vectors(
        vectors: NDArray[np.float32], asked: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], list[int]]:
        """The cosine of each passage, and the nearest ones."""
        cosine = vectors @ asked
        return cosine, _best(cosine, _DEPTH, least=-2.0)

    def embedder(self, given: Model | None = None) -> Model | None:
        """The model the index was built with: the one given if that is it, else opened here; None
        for an index of words alone.

        A PomonaError when its URI now names another model.
        """
        identity = self.about["identity"]
        if identity is None or (given is not None and given.identity == identity):
            return given if identity else None
        with self._opening:  # searches come in threads
            if self._embedder is None:
                self._embedder = load(self.about["embed"])
        if self._embedder.identity != identity:
            message = f'was built with another "{self.about["embed"]}" than the one here'
            raise PomonaError(message, where=self.path, remedy="build the index anew")
        return self._embedder

    async def close(self) -> None:
        """Close the embedding model, where this index opened one."""
        if self._embedder is not None:
            await self._embedder.close()
            self._embedder = None


def _passages(inputs: Any, column: str, source: str | None, longest: int) -> pa.Table:
    """The columns text and source of the passages."""
    if longest < 1:
        remedy = "give the most characters of a passage"
        raise PomonaError(f"longest is {longest}", where="Index.build", remedy=remedy)
    columns = (column, *([source] if source else []))
    texts: list[str] = []
    sources: list[str | None] = []
    row = 0
    rows = records.read(inputs).require(*columns).complete(column).select(*columns)
    for batch in rows.batches():
        origins = batch[source].to_pylist() if source else [None] * batch.num_rows
        for text, origin in zip(batch[column].to_pylist(), origins, strict=True):
            if not isinstance(text, str):
                raise no_text(column, text, rows.row_name(row))
            row += 1
            parts = cut(text, longest)
            texts += parts
            sources += [None if origin is None else str(origin)] * len(parts)
    if not texts:
        remedy = "give rows with text"
        raise PomonaError("there is no text to search", where=rows.source.where, remedy=remedy)
    strings = [pa.array(column, pa.string()) for column in (texts, sources)]
    return pa.table(dict(zip(("text", "source"), strings, strict=True)))


def no_text(column: str, value: object, where: str) -> PomonaError:
    """The error of a cell that holds no text."""
    remedy = "drop the row, or name another column"
    return PomonaError(f'"{column}" is {value!r}, not a text', where=where, remedy=remedy)


def cut(text: str, longest: int) -> list[str]:
    """Pieces of at most `longest` characters, cut after a paragraph, a sentence or a word where
    there is one in the second half.
    """
    pieces: list[str] = []
    text = text.strip()
    while len(text) > longest:
        half = longest // 2
        places = (
            text.rfind(mark, half, longest) + len(mark.rstrip())
            for mark in ("\n\n", "\n", ". ", "。", " ")
            if mark in text[half:longest]
        )
        at = next(places, longest) or longest
        pieces.append(text[:at].rstrip())
        text = text[at:].lstrip()
    return [piece for piece in (*pieces, text) if piece]


def _index(texts: Sequence[str], sources: Sequence[str | None]) -> Any:
    import bm25s

    vocabulary: dict[str, int] = {}
    searched = (f"{source or ''} {text}" for text, source in zip(texts, sources, strict=True))
    ids = [
        [vocabulary.setdefault(word, len(vocabulary)) for word in search_terms(text)]
        for text in searched
    ]
    if not vocabulary:
        remedy = "give rows with text"
        raise PomonaError("no text has a word in it", where="Index.build", remedy=remedy)
    index = bm25s.BM25()
    index.index((ids, vocabulary), show_progress=False)
    return index


async def _embedded(
    uri: str, texts: Sequence[str], progress: Callable[[int, int], None] | None
) -> tuple[NDArray[np.float32], str]:
    model = load(uri)
    try:
        if "embed" not in model.abilities:
            remedy = "use a torch or GGUF model, or a server with /embeddings"
            raise PomonaError("gives no embeddings", where=uri, remedy=remedy)
        parts = []
        for start in range(0, len(texts), _BATCH):
            parts.append((await model.vectors(texts[start : start + _BATCH]))[0])
            if progress is not None:
                progress(min(start + _BATCH, len(texts)), len(texts))
        return np.concatenate(parts), model.identity
    finally:
        await model.close()


def _best(scores: NDArray[np.float32], count: int, *, least: float) -> list[int]:
    """The rows with the highest scores above `least`, best first, of equals the first."""
    rows = np.flatnonzero(scores > least)
    return rows[np.argsort(-scores[rows], kind="stable")[:count]].tolist()


def fused(rankings: Sequence[Sequence[int]]) -> list[tuple[int, float]]:
    """(item, score) best first: the sum of 1 / (60 + rank) over the rankings it is in, rank from 1;
    of equals the smaller item first.

    Cormack, Clarke & Büttcher 2009, "Reciprocal rank fusion", section 2.
    """
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, 1):
            scores[item] = scores.get(item, 0.0) + 1 / (_K + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))
