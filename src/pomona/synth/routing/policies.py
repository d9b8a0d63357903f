"""Which teachers are asked about a row, and which of their answers are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from pomona.errors import PomonaError, positive
from pomona.synth.teachers import Assignment

Keep = Literal["first", "best", "all"]
Group = Callable[[Assignment], str]


def grouped(rows: Sequence[Assignment], by: Group | None) -> list[Assignment]:
    """The rows with their groups in place of their languages, where rows have other groups."""
    return list(rows) if by is None else [replace(row, lang=by(row)) for row in rows]


class Policy(Protocol):
    """Says of each row who is asked, and of their answers which are kept.

    `keep`: "first", one answer: the next teacher is asked only where none before it gave an answer
    that stood. "best": all are asked, and the answer of the highest reward is kept. "all": all are
    asked, and all their answers are kept.
    """

    @property
    def name(self) -> str:
        """What tables call it."""
        ...

    @property
    def keep(self) -> Keep:
        """What is kept."""
        ...

    @property
    def calls(self) -> int:
        """Generations of a row that every teacher answers."""
        ...

    def ask(self, rows: Sequence[Assignment]) -> list[tuple[str, ...]]:
        """The names of teachers for each row, in order. A name that stands there for the n-th time
        is that teacher's n-th draw (`sample` n − 1). What a row's teachers are depends on the row
        alone, and not on the others.
        """
        ...


@dataclass(frozen=True)
class Single:
    """One teacher for all rows; of several `samples` of it the best is kept, which is the control
    of as many teachers.
    """

    teacher: str
    samples: int = 1

    def __post_init__(self) -> None:
        positive(self, "the policy of a single teacher", "samples")

    @property
    def name(self) -> str:
        """The teacher's, and how many draws."""
        return self.teacher if self.samples == 1 else f"{self.teacher}, best of {self.samples}"

    @property
    def keep(self) -> Keep:
        """See `Policy`."""
        return "first" if self.samples == 1 else "best"

    @property
    def calls(self) -> int:
        """See `Policy`."""
        return self.samples

    def ask(self, rows: Sequence[Assignment]) -> list[tuple[str, ...]]:
        """See `Policy`."""
        return [(self.teacher,) * self.samples for _ in rows]


@dataclass(frozen=True)
class Random:
    """A teacher by lot, and those after it in the lot's order where it gives no answer."""

    teachers: Sequence[str]
    seed: int = 0
    name: str = "random"
    keep: Keep = "first"
    calls: int = 1

    def __post_init__(self) -> None:
        _check(self.name, self.teachers)

    def ask(self, rows: Sequence[Assignment]) -> list[tuple[str, ...]]:
        """See `Policy`."""
        return [
            tuple(sorted(self.teachers, key=lambda name: lot(self.seed, row.id, name)))
            for row in rows
        ]


@dataclass(frozen=True)
class Every:
    """All teachers are asked: reward routing with `keep` "best", and with "all" the control that
    keeps whatever they wrote.
    """

    teachers: Sequence[str]
    keep: Keep = "best"

    def __post_init__(self) -> None:
        _check(self.name, self.teachers)

    @property
    def name(self) -> str:
        """ "reward" or "all"."""
        return "reward" if self.keep == "best" else "all"

    @property
    def calls(self) -> int:
        """See `Policy`."""
        return len(self.teachers)

    def ask(self, rows: Sequence[Assignment]) -> list[tuple[str, ...]]:
        """See `Policy`."""
        return [tuple(self.teachers)] * len(rows)


@dataclass(frozen=True)
class Fixed:
    """A table: for each group its teachers, the preferred one first; `others` for groups that are
    not in it. `by`: the group of a row, its language when left out.
    """

    table: Mapping[str, Sequence[str]]
    others: Sequence[str] = ()
    by: Group | None = None
    name: str = "fixed"
    keep: Keep = "first"
    calls: int = 1

    def __post_init__(self) -> None:
        for group, teachers in self.table.items():
            _check(f'{self.name}, group "{group}"', teachers)

    def ask(self, rows: Sequence[Assignment]) -> list[tuple[str, ...]]:
        """See `Policy`. Raises PomonaError for a group that nobody is named for."""
        asked = []
        for row in grouped(rows, self.by):
            teachers = self.table.get(row.lang) or self.others
            if not teachers:
                known = ", ".join(sorted(self.table)) or "none"
                remedy = f"name its teachers, or `others`; the table has {known}"
                raise PomonaError("has no teacher", where=f'group "{row.lang}"', remedy=remedy)
            asked.append(tuple(teachers))
        return asked


def share(
    rows: Sequence[Assignment],
    policy: Policy,
    generations: int,
    *,
    seed: int = 0,
    able: Callable[[str, Assignment], bool] | None = None,
) -> list[Assignment]:
    """The rows, in their order, that a policy can afford for so many generations: those first in
    the order of a lot, so that what a smaller budget buys is part of what a larger one buys.

    able: whether a teacher of this name answers a row; all do when left out. Who does not costs
    nothing, and a row that nobody answers is left out.
    """
    order = sorted(rows, key=lambda row: lot(seed, row.id))
    kept: set[str] = set()
    left = generations
    for row, names in zip(order, policy.ask(order), strict=True):
        count = sum(able is None or able(name, row) for name in names)
        count = min(1, count) if policy.keep == "first" else count
        if count > left:
            break
        if count:
            kept.add(row.id)
            left -= count
    return [row for row in rows if row.id in kept]


def lot(seed: int, *names: str) -> bytes:
    """What things are sorted by to have them in a random order that depends on nothing else."""
    told = repr((seed, *names)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(told, digest_size=8).digest()


def _check(name: str, teachers: Sequence[str]) -> None:
    if not teachers:
        raise PomonaError("names no teacher", where=name, remedy="name at least one")
    if len(set(teachers)) < len(teachers):
        raise PomonaError("names a teacher twice", where=name, remedy="name each once")
