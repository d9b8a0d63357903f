"""Rows of a table that contradict themselves, each with its reason: hoaxes, wrong labels, sizes and
compute.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pomona.pages import parameters
from pomona.scale.tables.columns import Published
from pomona.scale.tables.names import NamedSize, hoax_word, merge_word, named_sizes, tuned_word

Kind = Literal["contamination", "label", "size", "compute", "experts"]
KINDS: dict[Kind, str] = {
    "contamination": "the name or a column says that it was trained on the test",
    "label": "called pretrained, while its name or a column says that it is a merge or tuned",
    "size": "the name says more or fewer parameters than the column",
    "compute": "compute is not near 6 x parameters x tokens",
    "experts": "small only because experts share layers: what the name says is larger",
}
_PRETRAINED = re.compile(r"pre-?train|\bbase\b|foundation", re.IGNORECASE)
_OTHER = re.compile(r"merge|continu", re.IGNORECASE)  # than trained from nothing
_MERGE = re.compile(r"merge", re.IGNORECASE)
_TABLES = 0.9e9  # weights of the largest tables of tokens, 256,000 x 3,500
_OFF = 10.0  # times that compute may be off 6ND: mixtures and repeated data are within


@dataclass(frozen=True)
class RowFlag:
    """What contradicts itself in a row, counted from 1. `left_out` names the curves without it."""

    row: int
    model: str
    kind: Kind
    reason: str
    left_out: Sequence[str] = ()


def labelled_pretrained(kind: str | None) -> bool:
    """Whether a table's own label calls a model pretrained, and no merge or further training."""
    return kind is not None and bool(_PRETRAINED.search(kind)) and not _OTHER.search(kind)


class Flagged:
    """The flags of a table. `rows[kind]` says which rows have one of that kind, bool [n];
    `small_but_said_larger` those that the column calls small and the name larger.
    """

    def __init__(
        self,
        published: Published,
        small: float,
        bases: Sequence[bool],
        merged: Sequence[bool | None] | None,
    ) -> None:
        self.published, self.small, self.bases, self.merged = published, small, bases, merged
        self.grain = _grain(published)
        self.found = [flag for row in range(len(published)) for flag in self._of(row)]
        self.rows = {kind: np.zeros(len(published), bool) for kind in KINDS}
        for flag in self.found:
            self.rows[flag.kind][flag.row - 1] = True
        said = [min((s.least for s in named_sizes(m)), default=0.0) for m in published.models]
        params = published.numbers["params"]
        self.small_but_said_larger = self.rows["size"] & (params <= small) & (said > params)
        self.small_but_said_larger &= np.array(said) > small

    def _of(self, row: int) -> Iterator[RowFlag]:
        told: list[tuple[Kind, str | None]] = [
            ("contamination", self._contamination(row)),
            ("label", self._label(row)),
            self._size(row),
            ("compute", self._compute(row)),
        ]
        for kind, reason in told:
            if reason:
                yield RowFlag(row + 1, self.published.models[row], kind, reason)

    def _contamination(self, row: int) -> str | None:
        if word := hoax_word(self.published.models[row]):
            return f'its name says "{word}"'
        told = self.published.texts.get("flagged")
        if told is None or told[row] is None or str(told[row]).lower() in ("false", "no", "0"):
            return None
        return f'column "{self.published.columns["flagged"]}" says "{told[row]}"'

    def _label(self, row: int) -> str | None:
        kinds = self.published.texts.get("kind")
        # A curated base is no merge, whatever is in its name: 8x7B, moe.
        if kinds is None or not labelled_pretrained(kinds[row]) or self.bases[row]:
            return None
        label = f'labelled "{kinds[row]}"'
        if self.merged is not None and self.merged[row]:
            return f"{label}, and a column says that it is a merge"
        model = self.published.models[row]
        if word := merge_word(model):
            return f'{label}, and its name says that it is a merge: "{word}"'
        if word := tuned_word(model):
            return f'{label}, and its name says that it is tuned: "{word}"'
        return None

    def _size(self, row: int) -> tuple[Kind, str | None]:
        """A contradiction, or experts whose sharing alone makes a model small."""
        params = float(self.published.numbers["params"][row])
        sizes = named_sizes(self.published.models[row])
        if not sizes or not np.isfinite(params):
            return "size", None
        column = f'column "{self.published.columns["params"]}" says {parameters(params)}'
        fitting = [size for size in sizes if self._fits(size, params)]
        if not fitting:
            said = " and ".join(_told(size) for size in sizes)
            return "size", f"its name says {said}, {column}"
        if params <= self.small < min(size.total for size in fitting):
            said = _told(fitting[0])
            return "experts", f"its name says {said}, {column}, as experts that share layers have"
        return "size", None

    def _fits(self, size: NamedSize, params: float) -> bool:
        """Whether a size is that of the column, as far as both were rounded."""
        slack = 0.1 * size.total + self.grain
        # Names leave out tables of tokens: gemma-7b has 8.5 billion. Whole billions tell no more.
        tables = 0.0 if self.grain else min(0.25 * size.total, _TABLES)
        return size.least - slack <= params <= size.total + slack + tables

    def _compute(self, row: int) -> str | None:
        numbers = self.published.numbers
        if not {"params", "tokens", "flop"} <= numbers.keys():
            return None
        params, tokens, flop = (float(numbers[w][row]) for w in ("params", "tokens", "flop"))
        times = flop / (6 * params * tokens)
        if not np.isfinite(times) or 1 / _OFF <= times <= _OFF:
            return None
        return f"{flop:.3g} FLOP are {times:.3g} times 6 x parameters x tokens"


def _grain(published: Published) -> float:
    """By how much parameters were rounded: a billion where all are whole billions, so that 12.9
    may be 12, else nothing.
    """
    params = published.numbers["params"]
    known = params[np.isfinite(params)]
    return 1e9 if len(known) > 1 and bool(np.all(known % 1e9 == 0)) else 0.0


def _told(size: NamedSize) -> str:
    if size.experts == 1:
        return f"{size.said} ({parameters(size.total)})"
    return f"{size.said} ({size.experts} x {parameters(size.each)} = {parameters(size.total)})"


def told_merged(published: Published) -> tuple[list[bool | None] | None, str | None]:
    """Which rows a column says are merges, and a note where that column contradicts the labels so
    much that it is not used: in one well-known table it means its opposite.
    """
    if "not_merged" in published.truths:
        return [None if v is None else not v for v in published.truths["not_merged"]], None
    merged: Any = published.truths.get("merged")
    if merged is None:
        return None, None
    kinds = published.texts.get("kind", [None] * len(published))
    shares = []
    for of_kind in (lambda kind: bool(_MERGE.search(kind)), labelled_pretrained):
        told = [m for m, k in zip(merged, kinds, strict=True) if k and m is not None and of_kind(k)]
        shares.append(sum(told) / len(told) if told else None)
    merges, pretrained = shares
    if merges is None or pretrained is None or merges >= pretrained:
        return list(merged), None
    column = published.columns["merged"]
    note = (
        f'column "{column}" calls {pretrained:.0%} of the models labelled pretrained merges, and '
        f"{merges:.0%} of those labelled merges: it is not used; where it means the opposite, give "
        f"--not-merged {column}"
    )
    return None, note
