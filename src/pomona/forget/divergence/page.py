"""The page of two models: bits per byte and divergence by group, and the documents on which they
are farthest apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona import pages
from pomona.files import check_into, write_into
from pomona.pages import UNKNOWN, clean, count, p_value, render, signed

if TYPE_CHECKING:
    from pomona.forget.divergence.figures import ModelChange, TokenFigure
    from pomona.forget.divergence.result import Divergence

NAME = "index.html"
_MOST = 200  # documents shown
_WIDTH, _LEVEL = 130, 0.05


def check_page(folder: Path) -> None:
    """Raise PomonaError where the page would replace what is none of ours."""
    check_into(folder, [NAME])


def write_page(result: Divergence, folder: Path) -> Path:
    """Write the page into a folder; its path."""
    write_into(folder, {NAME: render_page(result)}, "a page of two models")
    return folder / NAME


def render_page(result: Divergence) -> str:
    """The page as one HTML text that loads nothing."""
    named = sorted(result.groups.items(), key=lambda each: -each[1].metric_difference)
    rows = [("all documents", result.overall), *named]
    bits, kl = _Axis([_bits(c) for _, c in rows]), _Axis([_divergence(c) for _, c in rows])
    return render(
        "pomona.forget.divergence",
        "page.html.j2",
        result=result,
        headline=_headline(result.overall),
        facts=_facts(result),
        rows=[_row(result, name, change, bits, kl) for name, change in rows],
        documents=_documents(result),
        paired=result.reason is None,
        width=_WIDTH,
        bits=bits,
        kl=kl,
        notes=[*result.notes, *(f"{clean(n)}: {c.note}" for n, c in named if c.note)],
    ).text


class _Axis:
    """Where values and their intervals stand on a line, zero among them."""

    def __init__(self, values: Sequence[tuple[float | None, float | None, float | None]]) -> None:
        ends = [0.0, *(end for each in values for end in each if end is not None)]
        margin = 0.04 * (max(ends) - min(ends)) or 0.01
        self._low, self._high = min(ends) - margin, max(ends) + margin
        self.zero = self.at(0.0)

    def at(self, value: float) -> float:
        """The place of a value."""
        return round(_WIDTH * (value - self._low) / (self._high - self._low), 1)

    def mark(self, value: float | None, low: float | None, high: float | None) -> dict[str, Any]:
        """A dot with the line of its interval; hollow without one, and none without a value."""
        known = low is not None and high is not None
        return {
            "at": None if value is None else self.at(value),
            "ends": (self.at(low), self.at(high)) if known else None,  # pyright: ignore[reportArgumentType]
        }


def _bits(change: ModelChange) -> tuple[float | None, float | None, float | None]:
    return change.metric_difference, change.metric_low, change.metric_high


def _divergence(change: ModelChange) -> tuple[float | None, float | None, float | None]:
    kl = change.kl
    return (None, None, None) if kl is None else (kl.value, kl.ci_low, kl.ci_high)


def _headline(change: ModelChange) -> str:
    told = f"{_difference(change)} bits per byte"
    if change.kl is None or change.same_top is None or change.same_top.value is None:
        return told
    other = 100 * (1 - change.same_top.value)
    return f"KL {_value(change.kl)} nats a token, {other:.1f} % other likeliest tokens, {told}"


def _facts(result: Divergence) -> list[str]:
    change = result.overall
    told = [
        f"{clean(result.b)} against {clean(result.a)}: {change.metric_a:.3f} bits per byte before, "
        f"{change.metric_b:.3f} after, on {count(change.bytes)} bytes of {count(change.documents)} "
        "documents."
    ]
    if change.accuracy_a is not None and change.accuracy_b is not None:
        told.append(
            f"The true token is the likeliest at {100 * change.accuracy_a:.1f} % of positions "
            f"before and {100 * change.accuracy_b:.1f} % after: {count(change.lost)} lost, "
            f"{count(change.gained)} gained, p {p_value(change.p_mcnemar)} (exact McNemar)."
        )
    sure = [_verdict(one) for one in result.groups.values()]
    if sure:
        worse, better = sure.count("worse"), sure.count("better")
        told.append(
            f"Of {count(len(sure))} groups {count(worse)} get worse and {count(better)} better by "
            "bits per byte beyond chance: interval without zero, and p below .05 after Holm's "
            "correction."
        )
    return told


def _verdict(change: ModelChange) -> str:
    _, low, high = _bits(change)
    p = change.p_metric if change.p_metric_holm is None else change.p_metric_holm
    if low is None or high is None or p is None or low <= 0 <= high or p >= _LEVEL:
        return "unclear"
    return "worse" if low > 0 else "better"


def _row(
    result: Divergence, name: str, change: ModelChange, bits: _Axis, kl: _Axis
) -> dict[str, Any]:
    row = {
        "name": clean(name),
        "verdict": _verdict(change),
        "bytes": count(change.bytes),
        "a": f"{change.metric_a:.3f}",
        "bits": bits.mark(*_bits(change)),
        "difference": _difference(change),
        "p_bits": "—" if change is result.overall else p_value(change.p_metric_holm),
    }
    if change.kl is None or change.kl_quantiles is None or change.same_top is None:
        return row
    assert change.delta_p is not None
    return row | {
        "kl": kl.mark(*_divergence(change)),
        "kl_said": _value(change.kl),
        "cells": [
            _value(change.kl_quantiles["99"]),
            _percent(change.same_top, "{:.1f}".format),
            _percent(change.delta_p, signed),
            count(change.lost),
            count(change.gained),
            "—" if change is result.overall else p_value(change.p_holm),
        ],
    }


def _difference(change: ModelChange) -> str:
    return pages.change(change.metric_difference, change.metric_low, change.metric_high)


def _value(figure: TokenFigure) -> str:
    return pages.bounded(figure.value, figure.at_least, figure.at_most)


def _percent(figure: TokenFigure | None, write: Callable[[float], str]) -> str:
    return UNKNOWN if figure is None or figure.value is None else write(100 * figure.value)


def _documents(result: Divergence) -> list[dict[str, Any]]:
    """Those with the largest divergence, or the largest loss where there is none."""
    if result.documents is None:
        return []
    rows = result.documents.to_pylist()

    def worst(row: dict[str, Any]) -> float:
        return row["kl"] if "kl" in row else row["bits_per_byte_b"] - row["bits_per_byte_a"]

    return [
        {
            "cells": [
                clean(row["text"]),
                clean(row["group"] or "—"),
                count(row["row"]),
                count(row["tokens_a"]),
                f"{row['bits_per_byte_a']:.3f}",
                f"{row['bits_per_byte_b']:.3f}",
                *([f"{row['kl']:.4f}", count(row["lost"])] if "kl" in row else []),
            ]
        }
        for row in sorted(rows, key=worst, reverse=True)[:_MOST]
    ]
