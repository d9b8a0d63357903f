"""What a labelled sample says of the data: shares of each code per group with intervals, averages,
and how many groups are bad.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pomona.data.audit.labels import CODES, CORRECT, FLAGS, Key, Label
from pomona.stats import Kappa, value_of, wilson

ALL = ("C", *CODES)
WORDS = ("groups", "0 % C", "< 50 % C", "> 50 % NL", "> 50 % WL")


@dataclass(frozen=True)
class Share:
    """A share in [0, 1] with its 95 % interval, from `n` rows."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Group:
    """One group: rows in the data, rows sampled, how many of these a person labelled, and the share
    of each code, of C and of each flag.

    The flags are shares of the rows that a person labelled; they are missing when there is none.
    """

    name: str
    size: int
    sampled: int
    labelled: int
    shares: Mapping[str, Share]


@dataclass(frozen=True)
class Report:
    """An audit's result. `macro` weights every group alike, `micro` by its rows in the data.
    `counts` is the number of bad groups.

    `agreement` is the share of rows labelled by a person for which the pre-label said the same,
    `kappa` Cohen's kappa of the two (None when nobody labelled anything, and when both say one and
    the same code everywhere). `curve` has (threshold, share of groups whose C is below it), both in
    [0, 1].
    """

    signature: str
    by: str
    rows: int
    labelled: int
    agreement: Share | None
    kappa: float | None
    groups: tuple[Group, ...]
    macro: Mapping[str, Share]
    micro: Mapping[str, Share]
    counts: Mapping[str, int]
    curve: tuple[tuple[float, float], ...]

    def table(self) -> pa.Table:
        """Rows for plotting: group ("macro" and "micro" are the averages), code, share, low, high,
        n.
        """
        named = [
            *((group.name, group.shares) for group in self.groups),
            ("macro", self.macro),
            ("micro", self.micro),
        ]
        rows = [
            {
                "group": name,
                "code": code,
                "share": share.value,
                "low": share.low,
                "high": share.high,
                "n": share.n,
            }
            for name, shares in named
            for code, share in shares.items()
        ]
        return pa.Table.from_pylist(rows)


def summed_up(about: dict[str, Any], key: dict[int, Key], labels: Sequence[Label]) -> Report:
    """The report of an audit, from what `read_key` and `read_labels` give."""
    by_group: dict[str, list[Label]] = defaultdict(list)
    for row in labels:
        by_group[key[row.number].group].append(row)
    groups = tuple(
        _group(name, about["sizes"][name], rows, key) for name, rows in sorted(by_group.items())
    )
    human = [(row.label, key[row.number].prelabel) for row in labels if row.label]
    total = sum(group.size for group in groups)
    return Report(
        signature=about["signature"],
        by=about["by"],
        rows=len(labels),
        labelled=len(human),
        agreement=_share(sum(one == other for one, other in human), len(human)) if human else None,
        kappa=kappa(human),
        groups=groups,
        macro=_average(groups, [1 / len(groups)] * len(groups)),
        micro=_average(groups, [group.size / total for group in groups]),
        counts=_counts(groups),
        curve=_curve([group.shares["C"].value for group in groups]),
    )


def _group(name: str, size: int, rows: Sequence[Label], key: dict[int, Key]) -> Group:
    counted = Counter(row.label or key[row.number].prelabel for row in rows)
    counts = {
        "C": sum(counted[code] for code in CORRECT),
        **{code: counted[code] for code in CODES},
    }
    human = [row for row in rows if row.label]
    shares = {code: _share(count, len(rows)) for code, count in counts.items()}
    if human:
        shares |= {
            flag: _share(sum(getattr(row, flag) for row in human), len(human)) for flag in FLAGS
        }
    return Group(name, size, len(rows), len(human), shares)


def _share(k: int, n: int) -> Share:
    low, high = wilson(k, n)
    return Share(k / n, float(low), float(high), n)


def _average(groups: Sequence[Group], weights: Sequence[float]) -> dict[str, Share]:
    averages = {}
    for code in ALL:
        shares = [group.shares[code] for group in groups]
        value = math.fsum(
            weight * share.value for weight, share in zip(weights, shares, strict=True)
        )
        down = math.hypot(
            *(
                weight * (share.value - share.low)
                for weight, share in zip(weights, shares, strict=True)
            )
        )
        up = math.hypot(
            *(
                weight * (share.high - share.value)
                for weight, share in zip(weights, shares, strict=True)
            )
        )
        averages[code] = Share(
            value, max(0.0, value - down), min(1.0, value + up), sum(share.n for share in shares)
        )
    return averages


def _counts(groups: Sequence[Group]) -> dict[str, int]:
    shares = [{code: group.shares[code].value for code in ("C", "NL", "WL")} for group in groups]
    tests = [True for _ in shares], [s["C"] == 0 for s in shares], [s["C"] < 0.5 for s in shares]
    return dict(
        zip(
            WORDS,
            map(sum, (*tests, [s["NL"] > 0.5 for s in shares], [s["WL"] > 0.5 for s in shares])),
            strict=True,
        )
    )


def _curve(values: Sequence[float]) -> tuple[tuple[float, float], ...]:
    return tuple(
        (step / 100, sum(value < step / 100 for value in values) / len(values))
        for step in range(101)
    )


def kappa(pairs: Sequence[tuple[str, str]]) -> float | None:
    """Cohen's kappa of pairs of codes (Cohen 1960). None where it is not defined."""
    codes = sorted({code for pair in pairs for code in pair})
    if len(codes) < 2:
        return None
    table = np.zeros((len(codes), len(codes)))
    for one, other in pairs:
        table[codes.index(one), codes.index(other)] += 1
    return value_of(Kappa(), table.reshape(1, -1))
