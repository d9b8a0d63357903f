from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.data.mixing import Mixture, by_temperature, constant, plan_mixture, upsample_end
from pomona.errors import PomonaError
from pomona.train import plan_batches

rows_of = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.sampled_from("abc")),
    min_size=1,
    max_size=150,
)


@given(rows_of, st.integers(1, 20_000), st.integers(0, 3))
def test_batches_fit_and_the_budget_is_passed_by_less_than_a_row(
    rows: list[tuple[int, int, str]], tokens: int, seed: int
) -> None:
    lengths, groups = np.array([row[:2] for row in rows]), [row[2] for row in rows]
    schedule = constant(Mixture(dict.fromkeys(groups, 1.0)))
    plan = plan_mixture(lengths, groups, schedule, batch_tokens=256, tokens=tokens, seed=seed)
    for batch in plan:
        assert lengths[batch].max(axis=0).sum() * len(batch) <= 256
    seen = int(lengths[np.concatenate(plan)].sum())
    assert tokens <= seen < tokens + 80
    again = plan_mixture(lengths, groups, schedule, batch_tokens=256, tokens=tokens, seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(plan, again, strict=True))


def _corpus(rows: int) -> tuple[np.ndarray, np.ndarray, dict[str, float]]:
    rng = np.random.default_rng(0)
    groups = np.array(["en", "fr", "sw", "is"])[rng.choice(4, rows, p=[0.7, 0.2, 0.08, 0.02])]
    prompts = np.minimum(120, rng.lognormal(2.2, 0.8, rows).astype(int) + 1)
    lengths = np.stack(
        [prompts, np.minimum(150, (prompts * rng.lognormal(0.2, 0.3, rows)).astype(int) + 1)],
        axis=1,
    )
    return (
        lengths,
        groups,
        {name: float(lengths[groups == name].sum()) for name in ("en", "fr", "sw", "is")},
    )


def test_the_schedule_holds_in_every_slice_of_training() -> None:
    lengths, groups, sizes = _corpus(40_000)
    schedule = upsample_end(by_temperature(sizes, 1), by_temperature(sizes, 5), 0.25)
    tokens = int(lengths.sum())
    plan = plan_mixture(lengths, groups, schedule, batch_tokens=1024, tokens=tokens, seed=0)
    order = np.concatenate(plan)
    size = lengths[order].sum(1)
    place = np.cumsum(size) / tokens
    for low in np.arange(0, 1, 0.125):
        here = (place > low) & (place <= low + 0.125)
        for name, share in schedule.phases[0 if low < 0.75 else 1].mixture.shares.items():
            assert size[here & (groups[order] == name)].sum() / size[here].sum() == pytest.approx(
                share, abs=0.02
            )


def test_padding_is_no_more_than_the_trainers() -> None:
    lengths, groups, sizes = _corpus(40_000)

    def padding(plan: list[np.ndarray]) -> float:
        return 1 - sum(lengths[b].sum() for b in plan) / sum(
            lengths[b].max(0).sum() * len(b) for b in plan
        )

    tokens = int(lengths.sum())
    mixed = plan_mixture(
        lengths, groups, constant(Mixture(sizes)), batch_tokens=2048, tokens=tokens, seed=0
    )
    assert (
        padding(mixed)
        <= padding(plan_batches(lengths, batch_tokens=2048, tokens=tokens, seed=0)) * 1.1
    )


def test_a_group_left_out_of_the_last_phase_is_not_in_its_batches() -> None:
    lengths, groups, _ = _corpus(3000)
    schedule = upsample_end(
        Mixture({"en": 1, "fr": 1, "sw": 1, "is": 1}),
        Mixture({"en": 0, "fr": 1, "sw": 1, "is": 0}),
        0.3,
    )
    plan = plan_mixture(lengths, groups, schedule, batch_tokens=512, tokens=60_000, seed=0)
    kinds = [set(groups[batch]) for batch in plan]
    first = next(i for i in range(len(plan)) if not any(kind & {"en", "is"} for kind in kinds[i:]))
    before = sum(int(lengths[batch].sum()) for batch in plan[:first])
    assert before == pytest.approx(42_000, abs=600)
    assert any(kind & {"en"} for kind in kinds[first - 5 : first])


def test_a_group_without_a_word_in_the_schedule_is_refused() -> None:
    with pytest.raises(
        PomonaError,
        match=(
            r'schedule: the schedule says nothing of "b", which has 2 rows — give it a '
            r"weight; 0 leaves it out"
        ),
    ):
        plan_mixture(
            np.ones((3, 2), np.int64),
            ["a", "b", "b"],
            constant(Mixture({"a": 1})),
            batch_tokens=8,
            tokens=8,
            seed=0,
        )
    left_out = constant(Mixture({"a": 1, "b": 0}))
    plan = plan_mixture(
        np.ones((3, 2), np.int64), ["a", "b", "b"], left_out, batch_tokens=8, tokens=8, seed=0
    )
    assert set(np.concatenate(plan)) == {0}
