"""`pomona data dedup` and `pomona data rates`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cyclopts import Parameter

from pomona.cli._cards import show_card, working
from pomona.cli._options import Engine, Flag, Inputs, given
from pomona.cli._out import Format, Out


@Parameter(name="*", group="Of minhash and exact")
@dataclass(frozen=True, kw_only=True)
class Hashes:
    """Options of documents compared as a whole."""

    n_bands: int | None = None
    """Bands of the signature; from the threshold when left out."""
    rows_per_band: int | None = None
    """Hashes in a band."""
    shingle: Literal["auto", "word", "character"] | None = None
    """Word or character shingles; auto decides for each document by its script."""
    shingle_size: int | None = None
    """Words or characters in a shingle (5)."""
    edit_similarity: float | None = None
    """Pairs must also have this edit similarity on tokens."""
    target_size: int | None = None
    """Then cut to this many rows."""
    against: list[str] | None = None
    """Also remove what has a duplicate in these inputs."""
    pairs: Path | None = None
    """File of the evidence; OUT.pairs.parquet when left out."""
    index: Path | None = None
    """Folder that remembers documents between runs."""


@Parameter(name="*", group="Of substring")
@dataclass(frozen=True, kw_only=True)
class Spans:
    """Options of spans that occur twice."""

    unit: Literal["word", "byte", "token"] | None = None
    """word, byte or token."""
    min_length: int | None = None
    """Shortest span that is struck, in units (50)."""
    tokenizer: str | None = None
    """Tokenizer of unit token."""
    empty: Literal["keep", "drop"] | None = None
    """Keep or drop rows of which nothing is left."""


@Parameter(name="*", group="Of semantic")
@dataclass(frozen=True, kw_only=True)
class Meanings:
    """Options of embeddings."""

    model: str | None = None
    """Model of the embeddings."""
    clusters: int | None = None
    """Number of clusters."""
    device: str | None = None
    """cpu, cuda, ..."""


def dedup(
    inputs: Inputs,
    /,
    *,
    out: Path,
    method: Literal["exact", "minhash", "substring", "semantic"] = "minhash",
    column: str = "text",
    threshold: float | None = None,
    keep: str | None = None,
    memory: str | None = None,
    work: Path | None = None,
    seed: int | None = None,
    hashes: Hashes | None = None,
    spans: Spans | None = None,
    meanings: Meanings | None = None,
    engine: Engine = "native",
    dry_run: Flag = False,
    format: Format = "human",
) -> None:
    """Keep one of every group of duplicates, and say why each of the others went.

    Parameters
    ----------
    out
        File of what is kept; the card and the evidence are written beside it.
    method
        exact, minhash (near-duplicates), substring (strikes long spans that occur twice) or
        semantic (cosine of embeddings).
    column
        Column of the text.
    threshold
        Similarity from which two documents are duplicates: Jaccard for minhash (0.8), cosine for
        semantic (0.95).
    keep
        Which one stays. minhash, exact: first, longest or best:COLUMN. substring: none or first.
        semantic: far, near or first.
    memory
        substring, semantic: memory to stay within, such as 1GiB.
    work
        Folder of what a killed run continues from; beside OUT when left out.
    seed
        Seed.
    dry_run
        Only count; write nothing.
    """
    from pomona.data import dedup as remove

    options = given(
        hashes,
        spans,
        meanings,
        threshold=threshold,
        keep=keep,
        memory=memory,
        work=work,
        engine=engine,
        seed=seed,
    )
    with working("removing duplicates") as progress:
        card = remove(
            inputs, out, method=method, column=column, dry_run=dry_run, progress=progress, **options
        )
    show_card(Out(format), card, out, dry_run)


def rates(
    train: list[str],
    /,
    *,
    valid: list[str],
    column: str = "text",
    threshold: float = 0.8,
    engine: Engine = "native",
    format: Format = "human",
) -> None:
    """Print which share of train and of validation has near-duplicates where (Lee et al. 2022,
    table 2).

    Parameters
    ----------
    train
        Training files.
    valid
        Validation files.
    column
        Column of the text.
    threshold
        Jaccard similarity from which two documents are duplicates.
    """
    from pomona.data import rates as count

    with working("comparing") as progress:
        found = count(
            train, valid, column=column, threshold=threshold, engine=engine, progress=progress
        )
    Out(format).table(found.rows())
