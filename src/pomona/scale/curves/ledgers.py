"""Scores from ledgers: a run's `ledger.json`, or what `pomona ledger RUN --format json` prints."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np

from pomona.documents import read_json
from pomona.errors import PomonaError
from pomona.ledger import Entry, Ledger, ledger_of
from pomona.scale.curves.scores import (
    OVERALL,
    SCALE,
    Floats,
    Key,
    ScoredSystem,
    Scores,
    higher_is_better,
)

_WIDE = 2 * 1.959964  # standard errors in an interval of 95 %


def is_ledger(path: Path) -> bool:
    """Whether a path is a run, or a JSON file that may hold a ledger."""
    return path.suffix == ".json" or (path.is_dir() and (path / "ledger.json").is_file())


def scores_in(path: Path, resamples: int, seed: int) -> Scores:
    """The scores of a ledger. Each value errs as the interval of its difference from the base says.
    Raises PomonaError where it is none.
    """
    entries, base, parameters, higher = _read(path)
    sizes = {base: parameters}
    systems: list[ScoredSystem] = []
    values: dict[Key, float] = {}
    drawn: dict[Key, Floats] = {}
    rng = np.random.default_rng(seed)
    numbers: dict[str, int] = {}
    for entry in entries:
        if entry.baseline != base or (entry.p_holm is None and entry.variant != base):
            continue  # a further baseline of it, or a bound, which no system reaches
        if entry.variant not in numbers:
            numbers[entry.variant] = len(systems)
            systems.append(_system(entry, base, sizes))
        key = (numbers[entry.variant], entry.metric, entry.group)
        values[key] = entry.value
        if entry.variant != base and entry.ci_high > entry.ci_low:
            error = (entry.ci_high - entry.ci_low) / _WIDE
            drawn[key] = entry.value + error * rng.standard_normal(resamples)
    digest = hashlib.sha256(
        path.read_bytes() if path.is_file() else (path / "ledger.json").read_bytes()
    )
    groups = sorted({key[2] for key in values}, key=lambda group: group != OVERALL)
    notes = [f"{path}: errors are as the intervals say, those of two levers taken as independent."]
    about = (systems, higher, groups, values, drawn)
    return Scores(str(path), digest.hexdigest()[:12], *about, paired=False, notes=notes)


def _system(entry: Entry, base: str, sizes: dict[str, float | None]) -> ScoredSystem:
    is_size = entry.lever == SCALE
    once, each = entry.flops_once, entry.flops_per_item
    return ScoredSystem(
        SCALE if is_size else entry.variant,
        entry.variant if is_size else base,
        sizes.get(entry.variant) if is_size else sizes[base],
        flops=None if once is None or each is None else once + each * entry.n,
        kind=entry.lever,
    )


def _read(path: Path) -> tuple[list[Entry], str, float | None, dict[str, bool]]:
    """Entries, the base with its parameters, and the direction of each metric."""
    document = (
        read_json(path, top=None, remedy="name a run or its ledger") if path.is_file() else None
    )
    if not isinstance(document, list):
        ledger: Ledger = ledger_of(path)
        meta = ledger.meta
        higher = {name: meta.higher.get(name, meta.higher_is_better) for name in ledger.metrics}
        return ledger.entries, meta.base, meta.base_parameters, higher
    from pydantic import TypeAdapter, ValidationError

    try:
        entries = TypeAdapter(list[Entry]).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        remedy = "write it with `pomona ledger RUN --format json`"
        raise PomonaError(f"`{key}`: {first['msg']}", where=path, remedy=remedy) from error
    if not entries:
        raise PomonaError("there are no entries", where=path, remedy="name another ledger")
    base = Counter(entry.baseline for entry in entries).most_common(1)[0][0]
    return entries, base, None, {e.metric: higher_is_better(e.metric) for e in entries}
