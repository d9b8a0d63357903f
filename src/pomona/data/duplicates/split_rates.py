"""The three rates of Lee et al. 2022 (arXiv 2107.06499), table 2: how much of a split has a
near-duplicate, and where.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pomona.data.duplicates.minhash import (
    CHUNK_ROWS,
    Progress,
    SigningScratch,
    check_columns,
    scratch_at,
    steps,
)
from pomona.data.duplicates.pairs import Pairs, identical, near
from pomona.data.duplicates.signed import DedupOptions, Ints, Signed, chunks_in, options_of
from pomona.data.inputs import Inputs, opened
from pomona.records import split
from pomona.shingles import Shingle


@dataclass(frozen=True)
class Rates:
    """Documents of each split, and how many of them have a duplicate: of train in train, of valid
    in valid, of valid in train.
    """

    train: int
    valid: int
    train_in_train: int
    valid_in_valid: int
    valid_in_train: int

    def rows(self) -> list[dict[str, str | int | float | None]]:
        """A row for each rate: its name, documents, how many of them are duplicated, and the
        share.
        """
        counted = (
            (self.train, self.train_in_train),
            (self.valid, self.valid_in_valid),
            (self.valid, self.valid_in_train),
        )
        names = ("train in train", "valid in valid", "valid in train")
        return [
            {"rate": name, "documents": documents, "duplicated": duplicated, "share": share}
            for name, (documents, duplicated), share in zip(
                names, counted, self.shares, strict=True
            )
        ]

    @property
    def shares(self) -> tuple[float | None, float | None, float | None]:
        """The three rates, between 0 and 1, in the order of the paper; None of no documents."""

        def share(found: int, of: int) -> float | None:
            return found / of if of else None

        return (
            share(self.train_in_train, self.train),
            share(self.valid_in_valid, self.valid),
            share(self.valid_in_train, self.valid),
        )


def rates(
    train: Inputs,
    valid: Inputs,
    *,
    column: str = "text",
    threshold: float = 0.8,
    n_bands: int | None = None,
    rows_per_band: int | None = None,
    shingle: Shingle = "auto",
    shingle_size: int = 5,
    edit_similarity: float | None = None,
    engine: str | None = "native",
    seed: int = 0,
    progress: Progress | None = None,
) -> Rates:
    """Count which share of train and of validation has near-duplicates where (Lee et al. 2022,
    table 2).

    Only confirmed near-duplicates count; the parameters are those of `dedup` with
    `method="minhash"`.

    Raises PomonaError as `dedup` does, and ResourceError when the disk for temporary files is full.

    Args:
        train: Training files.
        valid: Validation files.
        column: Text of a row: a column of strings or of conversations, a field (meta.text), what a
            role says (messages.user), or a template of these ("{prompt}\\n{completion}").
        threshold: Jaccard similarity from which two documents are duplicates.
    """
    options = options_of(
        "minhash",
        column,
        threshold,
        n_bands,
        rows_per_band,
        shingle,
        shingle_size,
        edit_similarity,
        "first",
        None,
        seed,
    )
    splits = {
        "train": check_columns(opened(train), options),
        "valid": check_columns(opened(valid), options),
    }
    pieces = {name: split(records) for name, records in splits.items()}
    total = steps(options, list(pieces.values()), True) - 1 + (options.n_bands or 0)
    with (
        tempfile.TemporaryDirectory(prefix="pomona-") as folder,
        scratch_at(Path(folder) / "work", {"inputs": None}, total, progress) as work,
    ):
        chunks = []
        for name, parts in pieces.items():
            work.sign(parts, name, options, engine, CHUNK_ROWS)
            chunks.append(chunks_in(work.folder / name))
        both, old = Signed([*chunks[0], *chunks[1]]), len(Signed(chunks[0]))
        in_train, in_valid = (
            _within(both, options, work, half) for half in (slice(0, old), slice(old, len(both)))
        )
        crossing = near(
            both,
            options,
            np.ones(len(both), bool),
            work.folder / "cross",
            old=old,
            cross=True,
            progress=work.step,
        )
        return Rates(
            old,
            len(both) - old,
            in_train,
            in_valid,
            _hit(crossing, identical(both.column("prints"))),
        )


def _within(both: Signed, options: DedupOptions, work: SigningScratch, half: slice) -> int:
    alive = np.zeros(len(both), bool)
    alive[half] = True
    pairs = near(both, options, alive, work.folder / f"within-{half.start}", progress=work.step)
    return len(np.unique(np.concatenate([pairs.first, pairs.second])))


def _hit(pairs: Pairs, first: Ints) -> int:
    """Rows that were matched, and their identical copies."""
    hit = np.zeros(len(first), bool)
    hit[pairs.second] = True
    return int((hit | hit[first]).sum())
