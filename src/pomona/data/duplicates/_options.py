"""What `dedup` can be asked: parameters, their checks, and the rule that turns a threshold into
bands and rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pomona.errors import PomonaError, nearest

HASHES, RECALL = 128, 0.94
Method = Literal["exact", "minhash", "substring", "semantic"]
Shingle = Literal["auto", "word", "character"]
SHINGLES = ("word", "character", "auto")
NORMAL_FORM = "nfc+lower+single-spaces"


def s_curve(n_bands: int, rows_per_band: int, similarity: float) -> float:
    """The probability that two documents of this Jaccard similarity become candidates:
    `1 − (1 − s^rows)^bands` (Lee et al. 2022, §A).
    """
    return 1 - (1 - similarity**rows_per_band) ** n_bands


def bands_for(threshold: float, hashes: int = HASHES, recall: float = RECALL) -> tuple[int, int]:
    """Bands and rows from `hashes` hash functions: as many rows as find pairs at the threshold with
    probability `recall` or more.

    More rows mean fewer candidates to compare. 0.8 gives the customary 16 × 8 (0.947 at the
    threshold), 0.7 gives 25 × 5.
    """
    fitting = [
        rows for rows in range(1, hashes + 1) if s_curve(hashes // rows, rows, threshold) >= recall
    ]
    rows = max(fitting, default=1)
    return hashes // rows, rows


@dataclass(frozen=True)
class Options:
    """Parameters of a deduplication, checked. Bands, rows, shingles and `edit_similarity` are None
    for the exact method.
    """

    method: str
    column: str
    threshold: float | None
    n_bands: int | None
    rows_per_band: int | None
    shingle: str | None
    shingle_size: int | None
    edit_similarity: float | None
    keep: str
    target_size: int | None
    seed: int

    @property
    def score(self) -> str | None:
        """The column that `keep="best:COLUMN"` names."""
        return self.keep.partition(":")[2] or None

    def signing(self) -> dict[str, Any]:
        """The parameters that band keys and shingle sets depend on."""
        names = (
            "method",
            "column",
            "n_bands",
            "rows_per_band",
            "shingle",
            "shingle_size",
            "edit_similarity",
            "seed",
        )
        return {name: value for name, value in asdict(self).items() if name in names}


def options_of(
    method: str,
    column: str,
    threshold: float,
    n_bands: int | None,
    rows_per_band: int | None,
    shingle: str,
    shingle_size: int,
    edit_similarity: float | None,
    keep: str,
    target_size: int | None,
    seed: int,
) -> Options:
    """Check the parameters. Raises PomonaError naming the one that is wrong."""
    _share("threshold", threshold)
    if edit_similarity is not None:
        _share("edit_similarity", edit_similarity)
    if shingle not in SHINGLES:
        raise PomonaError(
            f'there is no "{shingle}"', where="shingle", remedy=nearest(shingle, SHINGLES)
        )
    if keep not in ("first", "longest") and not (keep.startswith("best:") and keep != "best:"):
        raise PomonaError(
            f'"{keep}" says nothing about which document to keep',
            where="keep",
            remedy="first, longest or best:COLUMN",
        )
    for name, value in (
        ("n_bands", n_bands),
        ("rows_per_band", rows_per_band),
        ("shingle_size", shingle_size),
        ("target_size", target_size),
    ):
        if value is not None and value < 1:
            raise PomonaError(f"{value} is less than 1", where=name, remedy="give 1 or more")
    if method == "exact":
        return Options(method, column, None, None, None, None, None, None, keep, target_size, seed)
    bands, rows = bands_for(threshold)
    if n_bands or rows_per_band:
        rows = rows_per_band or max(1, HASHES // (n_bands or 1))
        bands = n_bands or max(1, HASHES // rows)
    return Options(
        method,
        column,
        threshold,
        bands,
        rows,
        shingle,
        shingle_size,
        edit_similarity,
        keep,
        target_size,
        seed,
    )


def _share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise PomonaError(
            f"{value} is not above 0 and at most 1", where=name, remedy="0.8 is usual"
        )
