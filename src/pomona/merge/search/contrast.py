"""Systems compared on the held-out items: paired intervals per group, and a ledger of what each
cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona._version import __version__
from pomona.ledger.entry import Entry
from pomona.ledger.store import GroupCount, Ledger, Meta
from pomona.tasks.bootstrap import MINIMUM, Comparison, by_group, rows_of
from pomona.tasks.items import Items
from pomona.tasks.metrics import Metric

SERVED = 100_000  # answered items over which the cost of answering is counted, as in recipes


@dataclass(frozen=True)
class System:
    """A model on the held-out items: statistics `[n, k]`, what answering them took, and what making
    it cost beyond the base.
    """

    statistics: NDArray[np.float64]
    flops: float
    tokens: int = 0
    seconds: float = 0.0
    once_flops: float = 0.0
    once_tokens: int = 0
    once_seconds: float = 0.0


def compare_all(
    metric: Metric, items: Items, systems: Mapping[str, System], ours: str, seed: int
) -> dict[str, dict[str, Comparison]]:
    """`ours` against every other system: baseline → group → comparison; "overall" is the first
    group.
    """
    groups = groups_of(items)
    return {
        name: by_group(metric, systems[ours].statistics, system.statistics, groups, seed=seed)
        for name, system in systems.items()
        if name != ours
    }


def groups_of(items: Items) -> dict[str, NDArray[np.intp]]:
    """The rows of each group; none where all items are in one."""
    rows = rows_of(items.groups)
    return rows if len(rows) > 1 else {}


def ledger_of(
    metric: Metric, items: Items, systems: Mapping[str, System], base: str, about: Mapping[str, Any]
) -> Ledger:
    """Every system against all that came before it, `base` first. `about`: name, parameters, seed,
    signature, created and notes.
    """
    groups = groups_of(items)
    names = [base, *(name for name in systems if name != base)]
    entries = [
        _entry(
            metric,
            group,
            name,
            other,
            systems,
            found,
            about,
            lever="base" if name == base else "merging",
        )
        for place, name in enumerate(names)
        for other in (names[:place] or [base])
        for group, found in by_group(
            metric, systems[name].statistics, systems[other].statistics, groups, seed=about["seed"]
        ).items()
    ]
    meta = Meta(
        name=about["name"],
        metric=metric.name,
        higher_is_better=metric.higher_is_better,
        base=base,
        base_parameters=about["parameters"],
        serve_items=SERVED,
        seed=about["seed"],
        created=about["created"],
        groups=[GroupCount(name, len(rows), tail=False) for name, rows in groups.items()],
        versions={"pomona": __version__},
        notes=list(about["notes"]),
    )
    return Ledger(meta, entries)


def _entry(
    metric: Metric,
    group: str,
    name: str,
    other: str,
    systems: Mapping[str, System],
    found: Comparison,
    about: Mapping[str, Any],
    *,
    lever: str,
) -> Entry:
    mine, theirs = systems[name], systems[other]
    return Entry(
        lever=lever,
        variant=name,
        metric=metric.name,
        group=group,
        baseline=other,
        value=found.value,
        delta=found.delta,
        ci_low=found.ci_low,
        ci_high=found.ci_high,
        n=found.n,
        flops_once=mine.once_flops - theirs.once_flops,
        flops_per_item=mine.flops / len(mine.statistics),
        tokens=mine.once_tokens - theirs.once_tokens,
        seconds=mine.once_seconds - theirs.once_seconds + mine.seconds,
        scale_equivalent=None,
        seed=about["seed"],
        signature=f"{about['signature']}|boot:{MINIMUM}|seed:{about['seed']}",
    )


def documents(found: Mapping[str, Mapping[str, Comparison]]) -> list[dict[str, Any]]:
    """One flat row a baseline and group."""
    return [
        {"baseline": baseline, "group": group, **asdict(comparison)}
        for baseline, groups in found.items()
        for group, comparison in groups.items()
    ]
