from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.train import Examples, TrainSettings, cooldown, plan_batches, temperature_repeats
from pomona.train.batches import epoch_batches

lengths_of = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=200
).map(lambda rows: np.array(rows, np.int64))


@given(lengths_of, st.integers(0, 3))
def test_an_epoch_sees_every_example_once_within_the_batch_budget(
    lengths: np.ndarray, seed: int
) -> None:
    plan = plan_batches(lengths, batch_tokens=256, seed=seed, epochs=1)
    assert sorted(np.concatenate(plan)) == list(range(len(lengths)))
    for batch in plan:
        assert lengths[batch].max(axis=0).sum() * len(batch) <= 256


@given(lengths_of, st.integers(1, 5000))
def test_a_token_budget_is_met_and_passed_by_less_than_a_batch(
    lengths: np.ndarray, tokens: int
) -> None:
    plan = plan_batches(lengths, batch_tokens=256, seed=0, tokens=tokens)
    seen = [int(lengths[batch].sum()) for batch in plan]
    assert sum(seen) >= tokens > sum(seen[:-1])


def test_a_longer_budget_starts_with_the_same_batches() -> None:
    lengths = np.random.default_rng(0).integers(1, 30, (500, 2))
    short, long = (
        plan_batches(lengths, batch_tokens=512, seed=3, tokens=t) for t in (5_000, 50_000)
    )
    assert all(np.array_equal(a, b) for a, b in zip(short, long, strict=False))
    other = plan_batches(lengths, batch_tokens=512, seed=4, tokens=5_000)
    assert not all(np.array_equal(a, b) for a, b in zip(short, other, strict=False))


def test_budgets_that_make_no_sense_are_refused() -> None:
    with pytest.raises(PomonaError, match="one of them"):
        plan_batches(np.ones((3, 2), np.int64), batch_tokens=10, seed=0)
    with pytest.raises(PomonaError, match="the set of examples is empty"):
        plan_batches(np.ones((0, 2), np.int64), batch_tokens=10, seed=0, tokens=5)


@given(lengths_of, st.floats(1, 4), st.integers(0, 3))
def test_a_row_is_repeated_within_a_pass_as_often_as_asked(
    lengths: np.ndarray, often: float, seed: int
) -> None:
    plan = epoch_batches(lengths, np.full(len(lengths), often), 256, np.random.default_rng(seed))
    shown = np.bincount(np.concatenate(plan), minlength=len(lengths))
    assert int(often) <= shown.min() and shown.max() <= np.ceil(often)


def test_temperature_flattens_the_shares_of_the_groups() -> None:
    groups = ["fr"] * 5000 + ["sw"] * 50
    assert np.array_equal(temperature_repeats(groups, 1), np.ones(5050))
    drawn = temperature_repeats(groups, 2)
    assert drawn[0] == 1
    assert drawn[5000:].sum() / drawn[:5000].sum() == pytest.approx((50 / 5000) ** 0.5)


def test_metadata_for_nine_tenths_of_the_tokens_and_none_after() -> None:
    rng = np.random.default_rng(0)
    n, kept = 300, np.arange(0, 600, 2)  # the other rows were too long
    prompts = [np.zeros(rng.integers(1, 20), np.int32) for _ in range(n)]
    examples = Examples(prompts, prompts[::-1], np.ones(n, np.float32), np.ones(n), kept)
    plain = np.arange(600) >= 300
    settings = TrainSettings(batch_tokens=256, seed=3)
    tokens = 3 * int(examples.lengths.sum())
    plan = cooldown(plain)(examples, tokens, settings)
    late = [plain[kept[batch]] for batch in plan]
    assert all(one.all() or not one.any() for one in late)  # no batch has both
    turn = [bool(one.all()) for one in late].index(True)
    assert not any(one.any() for one in late[:turn]) and all(one.all() for one in late[turn:])
    seen = [int(examples.lengths[batch].sum()) for batch in plan]
    assert sum(seen) >= tokens > sum(seen[:-1])
    assert sum(seen[:turn]) == pytest.approx(0.9 * tokens, abs=256)
    again = cooldown(plain)(examples, tokens, settings)
    assert all(np.array_equal(a, b) for a, b in zip(plan, again, strict=True))
    with pytest.raises(PomonaError, match="nothing to train on"):
        cooldown(np.zeros(600, bool))(examples, tokens, settings)
    with pytest.raises(PomonaError, match="300 rows are told apart, and there are more"):
        cooldown(plain[:300])(examples, tokens, settings)
    with pytest.raises(PomonaError, match="a share of 1"):
        cooldown(plain, 1)
