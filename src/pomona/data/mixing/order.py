"""The order in which a training meets the rows of a mixture: a pure function of lengths, schedule,
budget and seed.

Every dataset is shuffled anew each epoch, and each of its rows has an ideal time: the moment at
which the schedule owes the dataset the tokens before the row, and a fixed part of the row's own
(another part for each dataset, so that small ones do not come all at once). The stream is all rows
by ideal time. Nothing is drawn at random, so shares hold at every prefix: with L_d the longest row
of dataset d and s_d its largest share, dataset d is never more than L_d + s_d · ΣL tokens from its
schedule, whatever the training's length, and a dataset with share 0 in a phase does not come at all
in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from pomona.data.mixing.schedule import Schedule, check_sizes
from pomona.errors import PomonaError, row_of

Ints = NDArray[np.int64]
BLOCK_ROWS = 1 << 16
GOLDEN = (5**0.5 - 1) / 2
MOST_ROWS = 100_000_000  # of an order that is held as a whole: 54 bytes each, about 5 GB
MOST_EPOCHS = 1_000_000  # of all datasets together: each costs a shuffle, however small


class Block(NamedTuple):
    """Consecutive rows: `dataset` (its place in the schedule) and `row`, int64 `[n]`, and `time`,
    tokens of the schedule, float64 `[n]`.
    """

    dataset: Ints
    row: Ints
    time: NDArray[np.float64]

    def at(self, index: slice | Ints | NDArray[np.bool_]) -> Block:
        """Some of the rows."""
        return Block(self.dataset[index], self.row[index], self.time[index])

    @classmethod
    def joined(cls, blocks: Sequence[Block]) -> Block:
        """Blocks one after the other."""
        none = np.empty(0, np.int64)
        datasets, rows, times = (
            zip(*blocks, strict=True) if blocks else ((none,), (none,), (np.empty(0),))
        )
        return cls(np.concatenate(datasets), np.concatenate(rows), np.concatenate(times))


@dataclass
class _Clock:
    """When the schedule owes a dataset its tokens. `owed` and `times` are the corners of that line,
    `rates` its slopes.
    """

    owed: NDArray[np.float64]
    times: NDArray[np.float64]
    rates: NDArray[np.float64]

    @classmethod
    def of(cls, bounds: NDArray[np.float64], shares: NDArray[np.float64], tokens: float) -> Self:
        """From the ends of phases, as shares of `tokens`, and what each phase is owed of them."""
        times = bounds * tokens
        return cls(np.concatenate([[0.0], np.cumsum(np.diff(times) * shares)]), times, shares)

    def debt(self, time: float) -> float:
        """Tokens that are owed at a time."""
        phase = min(int(np.searchsorted(self.times, time, "right")) - 1, len(self.rates) - 1)
        return float(self.owed[phase] + self.rates[phase] * (time - self.times[phase]))

    def when(self, owed: NDArray[np.float64]) -> NDArray[np.float64]:
        """Times, ascending for ascending `owed`; infinite for what is never owed."""
        phase = np.minimum(np.searchsorted(self.owed, owed, "right") - 1, len(self.rates) - 1)
        rates = self.rates[phase]
        with np.errstate(divide="ignore", invalid="ignore"):
            times = self.times[phase] + (owed - self.owed[phase]) / rates
        ends = np.append(np.nextafter(self.times[1:-1], 0), np.inf)
        return np.where(rates > 0, np.minimum(times, ends[phase]), np.inf)


@dataclass
class _Deck:
    """One dataset: its rows in the order of each epoch, from a counter-based generator keyed by
    seed, name and epoch.
    """

    name: str
    lengths: Ints
    clock: _Clock
    seed: int
    offset: float

    def __post_init__(self) -> None:
        self.total = int(self.lengths.sum())
        self.at = (-1, np.empty(0, np.int64), np.empty(0))

    def epoch(self, number: int) -> tuple[Ints, NDArray[np.float64]]:
        """Rows, and the tokens of this epoch at which each is due, both `[n]`."""
        if self.at[0] != number:
            order = shuffled(len(self.lengths), self.seed, self.name, number)
            sizes = self.lengths[order]
            self.at = (number, order, np.cumsum(sizes) - sizes + self.offset * sizes)
        return self.at[1], self.at[2]

    def upcoming(self, position: int, until: float) -> Iterator[tuple[Ints, NDArray[np.float64]]]:
        """Rows from `position` on with their ideal times, all before `until`."""
        if not self.total:
            return
        limit, number, start = self.clock.debt(until) + 1, *divmod(position, len(self.lengths))
        while True:
            order, due = self.epoch(number)
            before = float(number) * self.total
            end = int(np.searchsorted(due, limit - before))
            times = self.clock.when(before + due[start:end])
            count = int(np.searchsorted(times, until))
            yield order[start : start + count], times[:count]
            if start + count < len(order):
                return
            number, start = number + 1, 0


class MixtureStream:
    """An iterator of (dataset, row) that ends once `tokens` are reached. `state` is JSON, and
    `restore` costs one shuffle a dataset.

    The order does not depend on how the stream is read or how often it was saved and restored.
    """

    def __init__(
        self,
        datasets: Mapping[str, Sequence[int] | Ints],
        schedule: Schedule,
        *,
        tokens: float,
        seed: int = 0,
    ) -> None:
        lengths = {name: _lengths(name, datasets.get(name, ())) for name in schedule.names}
        check_sizes(
            schedule,
            {name: float(sizes.sum()) for name, sizes in lengths.items() if name in datasets},
        )
        if not tokens > 0:
            raise PomonaError(
                f"{tokens} is not a number of tokens",
                where="tokens",
                remedy="give how many the training sees in all",
            )
        tokens, seed = float(tokens), int(seed)
        self.names, self.tokens = schedule.names, tokens
        self._decks = [
            _Deck(
                name,
                lengths[name],
                _Clock.of(schedule.bounds, schedule.table[:, i], tokens),
                seed,
                (0.5 + i * GOLDEN) % 1,
            )
            for i, name in enumerate(schedule.names)
        ]
        self._key = _digest(
            seed,
            tokens,
            schedule.to_list(),
            {n: hashlib.sha256(v.tobytes()).hexdigest() for n, v in lengths.items()},
        )
        self._lengths = np.concatenate(list(lengths.values()))
        self._first = np.cumsum([0, *map(len, lengths.values())])
        self._end = (
            tokens + sum(int(sizes.max(initial=0)) for sizes in lengths.values()) + 1
        )  # the schedule is never further behind
        self._stride = BLOCK_ROWS * max(1.0, float(self._lengths.mean()))
        self._begin(np.zeros(len(self.names), np.int64), 0)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[str, int]:
        if self._cursor == len(self._block.row) and not self._advance():
            raise StopIteration
        at = self._cursor
        self._cursor += 1
        return self.names[self._block.dataset[at]], int(self._block.row[at])

    def blocks(self) -> Iterator[Block]:
        """The rest of the stream in blocks of tens of thousands of rows."""
        while self._cursor < len(self._block.row) or self._advance():
            rest = self._block.at(slice(self._cursor, None))
            self._cursor = len(self._block.row)
            yield rest

    def state(self) -> dict[str, Any]:
        """Where the stream is, as JSON: rows given of each dataset, tokens in all, and a digest of
        what the stream was made from.
        """
        used = self._block.dataset[: self._cursor]
        given = self._given + np.bincount(used, minlength=len(self.names))
        seen = self._seen + int(self._sizes(self._block)[: self._cursor].sum())
        return {
            "rows": dict(zip(self.names, given.tolist(), strict=True)),
            "tokens": seen,
            "of": self._key,
        }

    def restore(self, state: Mapping[str, Any]) -> Self:
        """Go to a saved position. Raises PomonaError when it was saved by a stream over other data,
        schedule, budget or seed.
        """
        if state.get("of") != self._key:
            message = (
                "the position was saved by a stream over other lengths, schedule, tokens or seed"
            )
            raise PomonaError(
                message, where="state", remedy="make the stream as it was then, or start anew"
            )
        self._begin(
            np.array([state["rows"][name] for name in self.names], np.int64), int(state["tokens"])
        )
        return self

    def _begin(self, given: Ints, seen: int) -> None:
        self._given, self._seen, self._time, self._cursor = given, seen, float(seen), 0
        self._block = Block.joined([])

    def _sizes(self, block: Block) -> Ints:
        return self._lengths[self._first[block.dataset] + block.row]

    def _advance(self) -> bool:
        """Make the next block that has rows; False at the end."""
        self._given = self._given + np.bincount(self._block.dataset, minlength=len(self.names))
        self._seen += int(self._sizes(self._block).sum())
        self._block, self._cursor = Block.joined([]), 0
        while self._seen < self.tokens and not len(self._block.row):
            self._time = min(self._time + self._stride, self._end)
            self._block = self._until(self._time)
        return len(self._block.row) > 0

    def _until(self, time: float) -> Block:
        block = Block.joined(
            [
                Block(np.full(len(rows), index), rows, times)
                for index, deck in enumerate(self._decks)
                for rows, times in deck.upcoming(int(self._given[index]), time)
            ]
        )
        block = block.at(np.argsort(block.time, kind="stable"))
        sizes = self._sizes(block)
        return block.at(self._seen + np.cumsum(sizes) - sizes < self.tokens)


def stream(
    datasets: Mapping[str, Sequence[int] | Ints],
    schedule: Schedule,
    *,
    tokens: float,
    seed: int = 0,
) -> MixtureStream:
    """The rows of a training in order, as (dataset, row), until `tokens` are reached (passed by
    less than one row).

    `datasets` gives the length of every row (tokens, or ones to count rows). Raises PomonaError
    when a dataset with a share above 0 is missing or empty, a length is negative, or `tokens` is
    not positive.
    """
    return MixtureStream(datasets, schedule, tokens=tokens, seed=seed)


def check_extent(lengths: Mapping[str, Ints], schedule: Schedule, tokens: float) -> None:
    """Raise PomonaError when a training has more than `MOST_ROWS` rows or shows its datasets more
    than `MOST_EPOCHS` times: an order held as a whole would take all memory, or never end.
    """
    sizes = {name: float(values.sum()) for name, values in lengths.items()}
    check_sizes(schedule, sizes)
    epochs = {
        name: share * tokens / sizes[name] for name, share in schedule.shares.items() if share > 0
    }
    remedy = "give a smaller total"
    rows = sum(count * len(lengths[name]) for name, count in epochs.items())
    if rows > MOST_ROWS:
        message = f"{tokens:.3g} in all are {rows:.3g} rows, more than {MOST_ROWS:,}"
        raise PomonaError(message, where="total", remedy=remedy)
    if sum(epochs.values()) > MOST_EPOCHS:
        name = max(epochs, key=lambda name: epochs[name])
        message = f'{tokens:.3g} in all show "{name}" {epochs[name]:.3g} times, too often'
        raise PomonaError(message, where="total", remedy=f"{remedy}, or more data")


def shuffled(n: int, seed: int, name: str, epoch: int) -> Ints:
    """A permutation of `n` rows that depends on nothing else: Philox, whose raw output numpy keeps
    fixed, sorted.
    """
    key = int.from_bytes(
        hashlib.blake2b(json.dumps([seed, name, epoch]).encode(), digest_size=16).digest(), "little"
    )
    return np.argsort(np.random.Philox(key=key).random_raw(n), kind="stable")


def _lengths(name: str, values: Sequence[int] | Ints) -> Ints:
    lengths = np.asarray(values, np.int64)
    if len(lengths) and lengths.min() < 0:
        raise PomonaError(
            f"the length {lengths.min()} is negative",
            where=row_of(f'"{name}"', int(lengths.argmin())),
            remedy="give 0 or more",
        )
    return lengths


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
