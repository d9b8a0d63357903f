from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.data.mixing import Mixture, Phase, Schedule, constant, stream, upsample_end
from pomona.data.mixing.order import shuffled
from pomona.errors import PomonaError

NAMES = "abcdef"
lengths_of = st.lists(st.integers(1, 50), min_size=1, max_size=30)


@st.composite
def trainings(
    draw: st.DrawFn, lowest: float = 0.01
) -> tuple[dict[str, list[int]], Schedule, int, int]:
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    datasets = {name: draw(lengths_of) for name in names}
    edges = [0.0, *sorted(draw(st.sets(st.floats(0.05, 0.95), max_size=3))), 1.0]
    phases = []
    for start, end in itertools.pairwise(edges):
        weights = {
            name: draw(st.just(0.0) | st.floats(0.01, 1))
            if lowest == 0
            else draw(st.floats(lowest, 1))
            for name in names
        }
        phases.append(
            Phase(
                start,
                end,
                Mixture(weights | ({names[0]: 1.0} if not any(weights.values()) else {})),
            )
        )
    return datasets, Schedule(tuple(phases)), draw(st.integers(1, 3000)), draw(st.integers(0, 5))


def _owed(schedule: Schedule, tokens: float, seen: np.ndarray) -> np.ndarray:
    """Tokens each dataset should have had, `[prefixes, datasets]`; past the end the last mixture
    goes on.
    """
    times = schedule.bounds * tokens
    spent = np.clip(seen[:, None] - times[:-1], 0, np.append(np.diff(times)[:-1], np.inf))
    return spent @ schedule.table


@given(trainings())
def test_every_prefix_keeps_the_schedule(
    training: tuple[dict[str, list[int]], Schedule, int, int],
) -> None:
    datasets, schedule, tokens, seed = training
    rows = list(stream(datasets, schedule, tokens=tokens, seed=seed))
    used = np.array(
        [[datasets[name][row] * (name == other) for other in schedule.names] for name, row in rows]
    )
    given_ = used.cumsum(0)
    longest = np.array([max(datasets[name]) for name in schedule.names])
    bound = longest + schedule.table.max(0) * longest.sum()
    assert (np.abs(given_ - _owed(schedule, tokens, given_.sum(1))) <= bound + 1e-6).all()
    assert given_[-1].sum() >= tokens > given_[-1].sum() - used[-1].sum()


@given(trainings(lowest=0))
def test_a_dataset_comes_only_in_phases_that_show_it(
    training: tuple[dict[str, list[int]], Schedule, int, int],
) -> None:
    datasets, schedule, tokens, seed = training
    for block in stream(datasets, schedule, tokens=tokens, seed=seed).blocks():
        phase = np.searchsorted(schedule.bounds[1:-1] * tokens, block.time, "right")
        assert (schedule.table[phase, block.dataset] > 0).all()


@given(trainings(lowest=0))
def test_every_epoch_shows_each_row_once_in_a_new_order(
    training: tuple[dict[str, list[int]], Schedule, int, int],
) -> None:
    datasets, schedule, tokens, seed = training
    rows = list(stream(datasets, schedule, tokens=tokens, seed=seed))
    for name, lengths in datasets.items():
        mine, n = [row for other, row in rows if other == name], len(lengths)
        for number, start in enumerate(range(0, len(mine), n)):
            assert (
                mine[start : start + n]
                == shuffled(n, seed, name, number)[: len(mine) - start].tolist()
            )


@given(trainings(lowest=0), st.lists(st.integers(0, 40), max_size=6), st.integers(1, 70))
def test_a_stream_goes_on_where_it_was_however_it_is_cut(
    training: tuple[dict[str, list[int]], Schedule, int, int], stops: list[int], block_rows: int
) -> None:
    datasets, schedule, tokens, seed = training
    whole = list(stream(datasets, schedule, tokens=tokens, seed=seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pomona.data.mixing.order.BLOCK_ROWS", block_rows)
        state, pieces = stream(datasets, schedule, tokens=tokens, seed=seed).state(), []
        for stop in [*stops, None]:
            part = stream(datasets, schedule, tokens=tokens, seed=seed).restore(
                json.loads(json.dumps(state))
            )
            pieces.extend(itertools.islice(part, stop))
            state = part.state()
    assert pieces == whole


def test_the_state_says_what_has_been_given() -> None:
    found = stream({"a": [3, 3], "b": [5]}, constant(Mixture({"a": 1, "b": 1})), tokens=30, seed=1)
    rows = [next(found) for _ in range(4)]
    state = found.state()
    assert state["tokens"] == sum({"a": 3, "b": 5}[name] for name, _ in rows)
    assert state["rows"] == {name: sum(other == name for other, _ in rows) for name in "ab"}


def test_blocks_and_single_rows_are_the_same_stream() -> None:
    rng = np.random.default_rng(0)
    datasets = {name: rng.integers(1, 90, 3000) for name in "abc"}
    schedule = upsample_end(
        Mixture({"a": 8, "b": 1, "c": 1}), Mixture({"a": 1, "b": 0, "c": 9}), 0.2
    )
    single = list(stream(datasets, schedule, tokens=200_000, seed=2))
    blocks = stream(datasets, schedule, tokens=200_000, seed=2)
    head = [next(blocks) for _ in range(17)]
    rest = [
        (schedule.names[d], int(r))
        for block in blocks.blocks()
        for d, r in zip(block.dataset, block.row, strict=True)
    ]
    assert head + rest == single


def test_seeds_names_and_epochs_shuffle_differently_and_always_the_same_way() -> None:
    assert shuffled(8, 0, "en", 0).tolist() == [5, 0, 4, 6, 7, 2, 1, 3]
    orders = {
        tuple(shuffled(20, seed, name, epoch))
        for seed in (0, 1)
        for name in ("en", "sw")
        for epoch in (0, 1)
    }
    assert len(orders) == 8


def test_small_datasets_do_not_come_all_at_once() -> None:
    shares = {"big": 0.8, **{f"tail-{i}": 0.01 for i in range(20)}}
    rows = [
        name
        for name, _ in stream(
            dict.fromkeys(shares, [1] * 500), constant(Mixture(shares)), tokens=1000
        )
    ]
    tail = np.array([name != "big" for name in rows]).reshape(-1, 25).sum(1)
    assert tail.min() >= 3
    assert tail.max() <= 7


def test_a_position_of_another_stream_is_refused() -> None:
    datasets, schedule = {"a": [1, 2], "b": [3]}, constant(Mixture({"a": 1, "b": 1}))
    state = stream(datasets, schedule, tokens=50).state()
    others = [
        stream({"a": [2, 1], "b": [3]}, schedule, tokens=50),
        stream(datasets, constant(Mixture({"a": 1, "b": 2})), tokens=50),
        stream(datasets, schedule, tokens=51),
        stream(datasets, schedule, tokens=50, seed=1),
    ]
    for other in others:
        with pytest.raises(
            PomonaError,
            match=(
                "state: the position was saved by a stream over other lengths, schedule, "
                "tokens or seed"
            ),
        ):
            other.restore(state)


def test_mistakes_are_named() -> None:
    schedule = constant(Mixture({"a": 1, "b": 1}))
    with pytest.raises(PomonaError, match='schedule: no dataset is named "b"'):
        stream({"a": [1]}, schedule, tokens=5)
    with pytest.raises(PomonaError, match=r'schedule: "b" has 50.0% of the training and is empty'):
        stream({"a": [1], "b": []}, schedule, tokens=5)
    with pytest.raises(PomonaError, match='"a", row 2: the length -2 is negative'):
        stream({"a": [1, -2], "b": [1]}, schedule, tokens=5)
    with pytest.raises(PomonaError, match="tokens: 0 is not a number of tokens"):
        stream({"a": [1], "b": [1]}, schedule, tokens=0)
