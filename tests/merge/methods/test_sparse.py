from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pomona.errors import PomonaError
from pomona.merge.methods import kernel_for, run
from pomona.merge.methods.sparse import BINS, FINITE, BinTally, RankSearch, kept
from pomona.merge.plan import TensorInput, TensorJob

TYPES = ("BF16", "F16", "F32")
OPTIONS = [
    {},
    {"normalize": True, "lambda": 0.7},
    {"rescale": True},
    {"rescale": "expected", "normalize": True},
]


def drawn(job: TensorJob, shape: tuple[int, ...], seed: int) -> dict[int, np.ndarray]:
    """Which entries dare keeps: seen on task vectors of ones."""
    found = {}
    for place, item in enumerate(job.inputs):
        base, ones = np.zeros(shape, np.float32), np.ones(shape, np.float32)
        item = replace(item, dtype="F32", parameters={**item.parameters, "weight": 1.0})
        alone = TensorJob(
            job.name, shape, "F32", "dare_linear", (item,), TensorInput(9, "x", "F32")
        )
        found[place] = run(alone, [base, ones], seed).reshape(-1) == 1
    return found


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "breadcrumbs_ties"])
@pytest.mark.parametrize("options", OPTIONS)
def test_thinning_by_size_agrees_with_float64(make, agrees, dtype, method, options):
    agrees(
        *make(
            method,
            3,
            dtype=dtype,
            options=options,
            weight=[0.5, -0.3, 0.4],
            density=[0.3, 0.5, 1.0],
            gamma=0.05,
        )
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("method", ["dare_ties", "dare_linear"])
@pytest.mark.parametrize("options", OPTIONS)
def test_dare_agrees_with_float64(make, agrees, dtype, method, options):
    job, arrays = make(
        method, 3, dtype=dtype, options=options, weight=[0.5, 0.3, 0.4], density=[0.3, 0.5, 0.9]
    )
    agrees(job, arrays, drawn(job, job.shape, 7), seed=7)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("method", ["della", "della_linear"])
@pytest.mark.parametrize("options", OPTIONS)
def test_della_agrees_with_float64(make, agrees, dtype, method, options):
    job, arrays = make(
        method, 2, dtype=dtype, options=options, weight=[0.5, 0.4], density=[0.3, 0.7], epsilon=0.1
    )
    keep = {}
    for place, item in enumerate(
        job.inputs
    ):  # what is kept of a task vector alone is all of it or nothing
        one = TensorJob(
            job.name,
            job.shape,
            dtype,
            "della_linear",
            (replace(item, parameters={**item.parameters, "weight": 1.0}),),
            job.base,
        )
        keep[place] = (
            (run(one, arrays[:: place + 1][:2], 7) != arrays[0]) | (arrays[place + 1] == arrays[0])
        ).reshape(-1)
    agrees(job, arrays, keep, seed=7)


def test_ties_keeps_all_that_equal_the_threshold():
    tau = np.array([3, -3, 3, 1, 0, 2], np.float32)
    item = TensorInput(1, "x", "F32", {"weight": 1.0, "density": 1 / 3})
    job = TensorJob(
        "x", (6,), "F32", "ties", (item,), TensorInput(0, "x", "F32"), "F32", {"normalize": True}
    )
    assert run(job, [np.zeros(6, np.float32), tau]).tolist() == [3, -3, 3, 0, 0, 0]
    least = replace(job, inputs=(replace(item, parameters={"weight": 1.0, "density": 0.01}),))
    assert run(least, [np.zeros(6, np.float32), tau]).tolist() == [3, -3, 3, 0, 0, 0]


def test_a_sum_of_zero_elects_plus_and_zeros_do_not_count():
    taus = [np.array(row, np.float32) for row in ([1, -1, 0, -2], [-1, 1, -4, -4], [0, 0, 0, 3])]
    inputs = tuple(TensorInput(i, "x", "F32", {"weight": 1.0, "density": 1.0}) for i in range(3))
    job = TensorJob(
        "x", (4,), "F32", "ties", inputs, TensorInput(9, "x", "F32"), "F32", {"normalize": True}
    )
    assert run(job, [np.zeros(4, np.float32), *taus]).tolist() == [1, 1, -4, -3]


def test_a_sum_that_is_zero_but_for_rounding_is_zero():
    values = [np.array([value], np.float32) for value in (1, 1, -1)]
    inputs = tuple(
        TensorInput(i, "x", "F32", {"weight": weight}) for i, weight in enumerate((0.1, 0.2, 0.3))
    )
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        job = TensorJob(
            "x",
            (1,),
            "F32",
            "dare_ties",
            tuple(inputs[i] for i in order),
            TensorInput(9, "x", "F32"),
        )
        assert run(job, [np.zeros(1, np.float32), *(values[i] for i in order)])[0] == pytest.approx(
            0.3
        )


def test_weights_that_agree_and_sum_to_zero_divide_nothing():
    taus = [np.array([value], np.float32) for value in (1, -3, -3)]
    inputs = tuple(
        TensorInput(i, "x", "F32", {"weight": weight, "density": 1.0})
        for i, weight in enumerate((0.3, -0.1, -0.2))
    )
    job = TensorJob(
        "x", (1,), "F32", "ties", inputs, TensorInput(9, "x", "F32"), "F32", {"normalize": True}
    )
    assert run(job, [np.zeros(1, np.float32), *taus])[0] == pytest.approx(1.2)


@pytest.mark.parametrize(
    "method", ["ties", "dare_ties", "della", "breadcrumbs", "dare_linear", "della_linear"]
)
def test_density_one_keeps_all_and_zero_nothing(make, reference, method):
    job, arrays = make(method, 2, options={"rescale": True}, weight=[1.0, 1.0], density=[1.0, 0.0])
    wanted = reference.narrow(reference.wide(arrays[1], "BF16"), "BF16")
    assert np.array_equal(run(job, arrays), wanted)
    nothing = replace(job, inputs=(job.inputs[1],))
    assert np.array_equal(run(nothing, [arrays[0], arrays[2]]), arrays[0])


@pytest.mark.parametrize("method", ["ties", "dare_ties", "della", "breadcrumbs_ties"])
def test_task_vectors_of_zeros_add_nothing(make, method):
    job, arrays = make(
        method,
        2,
        options={"rescale": True, "normalize": True},
        weight=0.5,
        density=0.5,
        epsilon=0.1,
    )
    assert np.array_equal(run(job, [arrays[0]] * 3), arrays[0])


@pytest.mark.parametrize("method", ["dare_ties", "dare_linear", "della"])
def test_draws_depend_on_seed_tensor_and_model_and_not_on_the_order_of_models(make, method):
    job, arrays = make(
        method,
        2,
        dtype="F32",
        options={"rescale": True},
        weight=[0.5, 0.5],
        density=[0.4, 0.6],
        epsilon=0.1,
    )
    merged = run(job, arrays, 3)
    turned = replace(job, inputs=job.inputs[::-1])
    assert np.array_equal(merged, run(turned, [arrays[0], arrays[2], arrays[1]], 3))
    assert np.array_equal(merged, run(job, arrays, 3, block=1))
    assert not np.array_equal(merged, run(job, arrays, 4))
    assert not np.array_equal(merged, run(replace(job, name="other"), arrays, 3))
    renamed = replace(job, inputs=(replace(job.inputs[0], identity="other"), job.inputs[1]))
    assert not np.array_equal(merged, run(renamed, arrays, 3))


def test_draws_are_as_frequent_as_asked_and_independent_between_models():
    count, shares = 1 << 18, (0.1, 0.5, 0.83)
    inputs = tuple(
        TensorInput(i, "x", "F32", {"density": share}, f"m{i}") for i, share in enumerate(shares)
    )
    keep = drawn(TensorJob("x", (count,), "F32", "dare_linear", inputs), (count,), 0)
    for i, share in enumerate(shares):
        assert keep[i].mean() == pytest.approx(share, abs=5 * (share * (1 - share) / count) ** 0.5)
        for step in (1, 512, 1024):  # 512 apart are drawn with one hash
            both = (keep[i][step:] & keep[i][:-step]).mean()
            assert both == pytest.approx(share**2, abs=5 * (share**2 / count) ** 0.5)
        for k in range(i):
            assert (keep[i] & keep[k]).mean() == pytest.approx(
                share * shares[k], abs=5 * (share * shares[k] / count) ** 0.5
            )


def test_draws_stay_the_same_from_version_to_version():
    item = TensorInput(1, "x", "F32", {"density": 0.5}, "model")
    keep = drawn(TensorJob("layer.weight", (1200,), "F32", "dare_linear", (item,)), (1200,), 42)[0]
    assert np.packbits(keep[:32]).tolist() == [53, 6, 186, 136]
    assert np.packbits(keep[-32:]).tolist() == [76, 90, 193, 20]


def test_della_keeps_large_entries_more_often():
    rng = np.random.default_rng(0)
    tau = rng.standard_normal((400, 500)).astype(np.float32)
    item = TensorInput(1, "x", "F32", {"weight": 1.0, "density": 0.5, "epsilon": 0.4})
    job = TensorJob("x", tau.shape, "F32", "della_linear", (item,), TensorInput(0, "x", "F32"))
    left = run(job, [np.zeros_like(tau), tau]) != 0
    order = np.argsort(np.abs(tau), axis=1)
    by_rank = np.take_along_axis(left, order, axis=1).mean(axis=0)
    assert by_rank[:50].mean() == pytest.approx(0.14, abs=0.02)
    assert by_rank[-50:].mean() == pytest.approx(0.86, abs=0.02)
    with pytest.raises(
        PomonaError,
        match=r"density 0.5 ± epsilon 0.6 leaves the range from 0 to 1 — use a smaller epsilon",
    ):
        run(
            replace(job, inputs=(replace(item, parameters={**item.parameters, "epsilon": 0.6}),)),
            [tau, tau],
        )


def test_scope_global_trims_over_all_tensors(reference):
    rng = np.random.default_rng(5)
    shapes, scales = [(40, 50), (3000,)], [1.0, 0.3]
    taus = [
        [
            (rng.standard_normal(shape) * scale).astype(np.float32)
            for shape, scale in zip(shapes, scales, strict=True)
        ]
        for _ in range(2)
    ]
    inputs = tuple(
        TensorInput(i + 1, "x", "F32", {"weight": 1.0, "density": d}, f"m{i}")
        for i, d in enumerate((0.2, 0.6))
    )
    jobs = [
        TensorJob(
            f"t{i}",
            shape,
            "F32",
            "ties",
            inputs,
            TensorInput(0, "x", "F32"),
            "F32",
            {"scope": "global", "normalize": True},
        )
        for i, shape in enumerate(shapes)
    ]
    kernels = [kernel_for(job, 0) for job in jobs]
    blocks = [
        [np.zeros(np.prod(shape), np.float32), *(tau[i].reshape(-1) for tau in taus)]
        for i, shape in enumerate(shapes)
    ]
    assert {kernel.shared for kernel in kernels} == {"ties"}
    for number in range(kernels[0].passes):
        partials = [
            kernel.read(number, 0, values) for kernel, values in zip(kernels, blocks, strict=True)
        ]
        for kernel in kernels:
            kernel.settle(number, partials)
    merged = []
    for kernel, values in zip(kernels, blocks, strict=True):
        merged.append(np.empty(values[0].size, np.float32))
        kernel.write(0, values, merged[-1])
    whole = [np.concatenate([part.reshape(-1) for part in tau]) for tau in taus]
    job = replace(jobs[0], shape=whole[0].shape, options={"normalize": True})
    wanted = reference.merge(job, [np.zeros_like(whole[0]), *whole])
    assert np.concatenate(merged) == pytest.approx(wanted, rel=1e-6)


@given(st.lists(st.floats(0, 10, width=32), min_size=1, max_size=300), st.data())
@settings(max_examples=60)
def test_the_search_finds_the_value_that_sorting_finds(values, data):
    bits = np.sort(np.array(values, np.float32).view(np.uint32).astype(np.int64))
    search = RankSearch(data.draw(st.integers(0, len(bits) - 1)))
    for _ in range(2):
        inside = bits[(bits >= search.low) & (bits < search.low + search.size)] - search.low
        tallies = [BinTally(), BinTally()]
        for tally, half in zip(tallies, (inside[::2], inside[1::2]), strict=True):
            tally.counts += np.bincount(half >> search.shift, minlength=BINS).astype(np.uint32)
        tallies[0].below[0] = (bits < search.low).sum()
        search.settle([tally.take() for tally in tallies])
    assert (search.low, search.size) == (bits[search.rank], 1)
    assert search.low < FINITE


@given(st.integers(1, 5000), st.floats(0.001, 0.999), st.floats(0, 0.5))
def test_as_many_are_kept_as_mergekit_keeps(count, density, gamma):
    assert kept("ties", count, {"density": density}) == (
        count - max(1, int(density * count)),
        count - 1,
    )
    ranks = kept("breadcrumbs", count, {"density": density, "gamma": gamma})
    if ranks is None:
        assert int(density * count) == 0
    else:
        assert ranks[1] - ranks[0] + 1 == int(density * count)
        assert 0 <= ranks[0] <= ranks[1] < count
