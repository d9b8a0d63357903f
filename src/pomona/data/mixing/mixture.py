"""Mixtures: which share of the tokens each dataset gets, by weights on two levels or by
temperature.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

from pomona.errors import PomonaError, nearest

Shares = Mapping[str, float]
MOST_WEIGHT = 1e300  # so that weights can be added up
LEAST_TEMPERATURE = 0.01  # below, all shares but one vanish, and soon that one too


@dataclass(frozen=True)
class Mixture:
    """Shares of the tokens by dataset. Weights of any total are scaled to 1; a dataset with weight
    0 is kept with share 0.
    """

    shares: Shares

    def __post_init__(self) -> None:
        for name, weight in self.shares.items():
            _check(name, weight)
        total = math.fsum(self.shares.values())
        if not total > 0:
            raise PomonaError(
                "no dataset has a weight above 0", where="weights", remedy="give at least one"
            )
        object.__setattr__(
            self, "shares", {name: float(weight) / total for name, weight in self.shares.items()}
        )

    def without(self, name: str) -> Mixture:
        """The same mixture with dataset `name` at share 0 and the others scaled up. Raises
        PomonaError when nothing is left.
        """
        _check_dataset(name, self.shares, "mixture")
        if not any(share > 0 for other, share in self.shares.items() if other != name):
            raise PomonaError(
                f'"{name}" is all there is in the mixture',
                where="mixture",
                remedy="add another dataset, or keep this one",
            )
        return Mixture(
            {other: 0.0 if other == name else share for other, share in self.shares.items()}
        )


@dataclass(frozen=True)
class Origin:
    """A source in two-level weighting: its `weight` (None: by size) and the weights of its datasets
    (None: by size).
    """

    datasets: Mapping[str, float | None]
    weight: float | None = None


def by_size(sizes: Shares) -> Mixture:
    """Every dataset at its natural share."""
    return Mixture(sizes)


def by_temperature(sizes: Shares, temperature: float) -> Mixture:
    """Shares ∝ p^(1/T) of the natural shares p: 1 keeps them, infinity makes them equal
    (Arivazhagan et al. 2019, arXiv 1907.05019, §4.1).

    Raises PomonaError when `temperature` is below 0.01, or no size is.
    """
    if not temperature >= LEAST_TEMPERATURE:
        raise PomonaError(
            f"{temperature} is not a temperature",
            where="temperature",
            remedy="use 1 for natural shares, more to flatten",
        )
    natural = Mixture(sizes).shares
    return Mixture(
        {name: share ** (1 / temperature) if share > 0 else 0.0 for name, share in natural.items()}
    )


def two_level(origins: Mapping[str, Origin], sizes: Shares) -> Mixture:
    """Source weight, then dataset weight, then the rest by size (Aya: Üstün et al. 2024, arXiv
    2402.07827).

    On each level, weights given for all are scaled to 1. Weights given for some are shares, below 1
    in all, and the others divide what is left by size.

    Raises:
        PomonaError: a dataset has no size or stands in two sources, or the weights given for some
            leave nothing to the others.
    """
    seen: dict[str, str] = {}
    for source, origin in origins.items():
        for name in origin.datasets:
            if name in seen:
                raise PomonaError(
                    f'"{name}" stands in "{seen[name]}" too',
                    where=f'source "{source}"',
                    remedy="list it once",
                )
            _check_dataset(name, sizes, f'source "{source}"')
            seen[name] = source
    totals = {
        source: math.fsum(sizes[name] for name in origin.datasets)
        for source, origin in origins.items()
    }
    outer = _level({source: origin.weight for source, origin in origins.items()}, totals, "sources")
    shares = dict.fromkeys(sizes, 0.0)
    for source, origin in origins.items():
        inner = _level(
            origin.datasets, {name: sizes[name] for name in origin.datasets}, f'source "{source}"'
        )
        shares |= {name: outer[source] * share for name, share in inner.items()}
    return Mixture(shares)


def mixture_of(spec: Mapping[str, Any], sizes: Shares) -> Mixture:
    """A mixture as YAML writes it: `{}` (by size), `{weights: {en: 3}}`, `{temperature: 2}`, or
    `{sources: {aya: {weight: 25, datasets: {xp3: 2, flan: null}}}}`; a dataset that `weights`
    leaves out gets share 0.

    Raises PomonaError for an unknown key or dataset, and for what is not a weight.
    """
    _check_keys(spec, ("weights", "temperature", "sources"), "mixture")
    if len(spec) > 1:
        raise PomonaError(
            f"{' and '.join(sorted(spec))} are given together",
            where="mixture",
            remedy="give one of them",
        )
    if "temperature" in spec:
        return by_temperature(sizes, _check("temperature", spec["temperature"]))
    if "sources" in spec:
        return two_level(
            {
                name: _origin(name, value)
                for name, value in _mapping("sources", spec["sources"]).items()
            },
            sizes,
        )
    if "weights" not in spec:
        return by_size(sizes)
    weights = _mapping("weights", spec["weights"])
    for name in weights:
        _check_dataset(name, sizes, "weights")
    return Mixture({name: weights.get(name, 0.0) for name in sizes})


def _origin(source: str, value: Any) -> Origin:
    spec = _mapping(f'source "{source}"', value)
    _check_keys(spec, ("weight", "datasets"), f'source "{source}"')
    datasets = spec.get("datasets", {source: None})
    named = (
        dict.fromkeys(datasets)
        if isinstance(datasets, list)
        else _mapping(f'source "{source}", datasets', datasets)
    )
    return Origin(named, spec.get("weight"))


def _level(weights: Mapping[str, float | None], sizes: Shares, where: str) -> dict[str, float]:
    given = {name: _check(name, weight) for name, weight in weights.items() if weight is not None}
    rest = {name: sizes[name] for name in weights if name not in given}
    if not rest:
        return dict(Mixture(given).shares)
    left = 1 - math.fsum(given.values())
    if not left > 0:
        message = (
            f"the weights given add up to {1 - left:g} and leave nothing for {', '.join(rest)}"
        )
        raise PomonaError(
            message, where=where, remedy="give shares below 1 in all, or a weight for every one"
        )
    return given | {name: left * share for name, share in Mixture(rest).shares.items()}


def _check_dataset(name: str, known: Shares, where: str) -> None:
    if name not in known:
        raise PomonaError(f'no dataset is named "{name}"', where=where, remedy=nearest(name, known))


def _check_keys(spec: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for key in spec:
        if key not in known:
            raise PomonaError(f'unknown key "{key}"', where=where, remedy=nearest(key, known))


def _check(name: str, weight: Any) -> float:
    value = float(weight) if isinstance(weight, Real) and not isinstance(weight, bool) else math.nan
    if not (value >= 0 and (value <= MOST_WEIGHT or name == "temperature")):
        raise PomonaError(
            f"{weight!r} is not a weight",
            where=f'"{name}"',
            remedy="give a finite number, 0 or more, and below 1e300",
        )
    return value


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise PomonaError(
            f"{value!r} is not a mapping of names and values",
            where=where,
            remedy="write NAME: VALUE, one a line",
        )
    return value
