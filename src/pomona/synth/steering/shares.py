"""How many rows of each group a student sees, so that the tail is not drowned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from pomona.errors import PomonaError, nearest
from pomona.stats import largest_remainder
from pomona.synth.teachers import Assignment


@dataclass(frozen=True)
class Tempered:
    """`total` rows, of which a group of share p has a share ∝ p^(1/temperature): 1 leaves shares as
    they are, and the higher it is the more alike they become (Arivazhagan et al. 2019, arXiv
    1907.05019, §4.1).
    """

    total: int
    temperature: float = 1.0


Quota = int | Mapping[str, int] | Tempered


def drawn(seed: int, *names: str) -> int:
    """A number for what has these names, the same wherever it stands and whatever stands beside."""
    told = "\0".join((str(seed), *names)).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(told, digest_size=7).digest(), "big")


def quotas(rows: Mapping[str, int], target: Quota) -> dict[str, int]:
    """How many rows of each group are wanted, where `rows` says how many there are: the same number
    of each; those that are named, and of other groups what there is; or a tempered total, by
    largest remainder. A group may get more than it has rows: see `places`.

    Raises PomonaError for a group that there is not, a negative number, or a temperature below 1.
    """
    counts = {name: n for name, n in rows.items() if n}
    if isinstance(target, Tempered):
        return _tempered(counts, target)
    if isinstance(target, int):
        target = dict.fromkeys(counts, target)
    for name, wanted in target.items():
        if name not in rows:
            message = f'there is no group "{name}"'
            raise PomonaError(message, where="quotas", remedy=nearest(name, rows))
        if wanted < 0:
            remedy = "give 0 or more"
            raise PomonaError(f"{wanted} are too few", where=f'quotas, "{name}"', remedy=remedy)
    return {name: target.get(name, n) for name, n in counts.items()}


def places(
    rows: Sequence[Assignment],
    target: Quota,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, int]:
    """How many answers of each row are wanted, by its id, so that groups have their `quotas`: where
    a group has more rows than that, of some one and of the others none; where it has fewer, of some
    one more than of others. Which, the seed and the id say, so that a smaller quota takes some of
    the rows of a larger one.

    groups: of the rows, their languages when left out. Raises PomonaError as `quotas` does.
    """
    told = [row.lang for row in rows] if groups is None else list(groups)
    if len(told) != len(rows):
        message = f"{len(told)} groups of {len(rows)} rows"
        raise PomonaError(message, where="quotas", remedy="give each row its group")
    wanted = quotas(Counter(told), target)
    members: dict[str, list[str]] = {}
    for row, group in zip(rows, told, strict=True):
        members.setdefault(group, []).append(row.id)
    answers: dict[str, int] = {}
    for group, ids in members.items():
        each, more = divmod(wanted[group], len(ids))
        first = sorted(ids, key=lambda name: (drawn(seed, name), name))
        answers |= {name: each + (at < more) for at, name in enumerate(first)}
    return {row.id: answers[row.id] for row in rows}


def _tempered(counts: Mapping[str, int], target: Tempered) -> dict[str, int]:
    if target.total < 0 or target.temperature < 1:
        message = f"total is {target.total}, temperature {target.temperature:g}"
        remedy = "give a total of 0 or more, and a temperature of 1 or more"
        raise PomonaError(message, where="quotas", remedy=remedy)
    if not counts:
        return {}
    names = sorted(counts)
    weights = np.array([counts[name] for name in names], float) ** (1 / target.temperature)
    # Of equal remainders the group with the fewest rows gets the row
    whole = largest_remainder(weights, target.total, [counts[name] for name in names])
    return {name: int(whole[names.index(name)]) for name in counts}
