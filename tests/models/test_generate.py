from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings, strategies as st

import pomona
from pomona.errors import PomonaError, ResourceError
from pomona.models import Model, Sample, catalogue, load
from pomona.models.torch.model import TorchModel

from .conftest import KINDS, some_prompts

UI = Path(pomona.__file__).parent / "assets" / "ui" / "ui.parquet"


def by_transformers(
    model: TorchModel, prompts: list[str], new: int, stop: int = 0
) -> list[list[int]]:
    """Greedy answers of transformers' own generate, up to the stop token; prompts of equal length
    go together, so that none is padded.
    """
    ids = model.codec.prompts(prompts)
    answers: dict[int, list[int]] = {}
    for length in {len(row) for row in ids}:
        rows = [number for number, row in enumerate(ids) if len(row) == length]
        batch = torch.tensor([ids[number] for number in rows])
        with torch.inference_mode():
            out = model.network.generate(  # pyright: ignore[reportCallIssue]
                input_ids=batch,
                attention_mask=torch.ones_like(batch),
                do_sample=False,
                max_new_tokens=new,
                pad_token_id=0,
            )
        for number, answer in zip(rows, out[:, length:].tolist(), strict=True):
            answers[number] = answer[: answer.index(stop)] if stop in answer else answer
    return [answers[number] for number in range(len(prompts))]


def same(left: list[list[Sample]], right: list[list[Sample]]) -> None:
    for a, b in zip(
        [s for row in left for s in row], [s for row in right for s in row], strict=True
    ):
        assert a.token_ids.tolist() == b.token_ids.tolist()
        assert (a.text, a.finish_reason, a.prompt_tokens, a.completion_tokens) == (
            b.text,
            b.finish_reason,
            b.prompt_tokens,
            b.completion_tokens,
        )
        np.testing.assert_allclose(a.logprobs, b.logprobs, atol=1e-4)


@pytest.mark.parametrize(("kind", "count"), [("llama", 200), ("grouped", 40), ("gpt2", 40)])
def test_greedy_is_transformers_greedy(
    models: dict[str, TorchModel], kind: str, count: int
) -> None:
    model, prompts = models[kind], some_prompts(count)
    ours = model.generate(prompts, max_new_tokens=20)
    assert [row[0].token_ids.tolist() for row in ours] == by_transformers(model, prompts, 20)
    reasons = {row[0].finish_reason for row in ours}
    assert reasons == {"stop", "length"}, "the checkpoint must exercise both endings"


@pytest.mark.skipif(
    not next(entry.present for entry in catalogue() if entry.name == "ui-s"),
    reason="ui-s is not in this checkout",
)
def test_greedy_is_transformers_greedy_on_real_text() -> None:
    table = pq.read_table(
        UI, columns=["english", "lang"], filters=[("split", "==", "test")]
    ).to_pylist()
    rows = random.Random(0).sample(table, 200)
    prompts = [f"<|{row['lang']}|>{row['english']}<|to|>" for row in rows]
    model = load("ui-s", device="cpu", dtype="float32")
    assert isinstance(model, TorchModel)
    ours = model.generate(prompts, max_new_tokens=24)
    stop = model.codec.stops[0]
    assert [row[0].token_ids.tolist() for row in ours] == by_transformers(model, prompts, 24, stop)


def test_a_model_is_a_model(model: TorchModel) -> None:
    assert isinstance(model, Model)
    assert model.uri


@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_are_the_models_own(models: dict[str, TorchModel], kind: str) -> None:
    model, prompts = models[kind], some_prompts(12)
    for prompt, row in zip(
        prompts,
        model.generate(prompts, n=2, temperature=[0, 1.7], top_p=0.9, max_new_tokens=9, seed=3),
        strict=True,
    ):
        for sample in row:
            ids = torch.tensor([[*model.codec.prompts([prompt])[0], *sample.token_ids.tolist()]])
            with torch.inference_mode():
                own = model.network(input_ids=ids).logits[0].log_softmax(dim=-1)
            start = sample.prompt_tokens
            expected = [
                own[start - 1 + k, token].item() for k, token in enumerate(sample.token_ids)
            ]
            np.testing.assert_allclose(sample.logprobs, expected, atol=1e-4)
            assert sample.logprobs.dtype == np.float32
            assert sample.token_ids.dtype == np.int32
            assert sample.completion_tokens == len(sample.token_ids) + (
                sample.finish_reason == "stop"
            )


def test_seeds(model: TorchModel) -> None:
    prompts = some_prompts(20)
    first = model.generate(prompts, n=3, temperature=0.8, seed=1, max_new_tokens=12)
    same(first, model.generate(prompts, n=3, temperature=0.8, seed=1, max_new_tokens=12))
    other = model.generate(prompts, n=3, temperature=0.8, seed=2, max_new_tokens=12)
    assert (
        sum(
            a.text != b.text
            for x, y in zip(first, other, strict=True)
            for a, b in zip(x, y, strict=True)
        )
        > 40
    )
    assert all(len({sample.text for sample in row}) > 1 for row in first)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_do_not_depend_on_the_company(models: dict[str, TorchModel], kind: str) -> None:
    model, prompts = models[kind], some_prompts(40)
    ask = {"n": 3, "temperature": [0.0, 0.8, 1.3], "min_p": 0.02, "seed": 5, "max_new_tokens": 10}
    whole = model.generate(prompts, **ask)
    same([model.generate([prompt], **ask)[0] for prompt in prompts[:10]], whole[:10])
    same(model.generate(prompts[::-1], **ask)[::-1], whole)
    order = np.random.default_rng(0).permutation(len(prompts))
    same(
        [
            model.generate([prompts[i] for i in order], **ask)[list(order).index(i)]
            for i in range(3)
        ],
        whole[:3],
    )


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    picked=st.lists(st.integers(0, 29), min_size=1, max_size=12, unique=True),
    rows=st.integers(1, 40),
)
def test_any_composition_any_batch_size(model: TorchModel, picked: list[int], rows: int) -> None:
    prompts, ask = (
        some_prompts(30, seed=9),
        {"n": 3, "temperature": [0.0, 0.9, 0.9], "seed": 2, "max_new_tokens": 6},
    )
    if not hasattr(model, "alone"):
        model.alone = [model.generate([prompt], **ask)[0] for prompt in prompts]  # pyright: ignore[reportAttributeAccessIssue]
    usual = model.budget
    model.budget = type(usual)(usual.memory, usual.token, usual.logits, usual.pass_tokens, rows)
    try:
        same(model.generate([prompts[i] for i in picked], **ask), [model.alone[i] for i in picked])  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        model.budget = usual


def test_the_first_samples_of_more_samples_are_the_same(model: TorchModel) -> None:
    prompts = some_prompts(10)
    few, many = (model.generate(prompts, n=n, temperature=1.0, max_new_tokens=6) for n in (2, 5))
    same(few, [row[:2] for row in many])


def test_a_hedged_pool_begins_with_the_greedy_answer(model: TorchModel) -> None:
    prompts = some_prompts(30)
    pool = model.generate(prompts, n=4, temperature=[0.0, 0.8, 0.8, 0.8], max_new_tokens=10)
    same([row[:1] for row in pool], model.generate(prompts, max_new_tokens=10))
    same(
        [row[1:3] for row in pool],
        [row[1:3] for row in model.generate(prompts, n=3, temperature=0.8, max_new_tokens=10)],
    )


def test_less_memory_makes_smaller_batches_with_the_same_samples(
    checkpoints: dict[str, Path], model: TorchModel
) -> None:
    prompts, sizes = some_prompts(24), {}
    results = []
    for memory in (None, 2_000_000, 1):
        small = load(str(checkpoints["llama"]), memory=memory)
        assert isinstance(small, TorchModel)
        widest: list[int] = []
        handle = small.network.register_forward_pre_hook(
            lambda _, __, named, seen=widest: seen.append(len(named["input_ids"])), with_kwargs=True
        )
        results.append(small.generate(prompts, n=2, temperature=1.0, max_new_tokens=5))
        sizes[memory] = max(widest)
        handle.remove()
        scores = small.score(prompts, ["delete the page"] * 24, end=True)
        for got, expected in zip(
            scores, model.score(prompts, ["delete the page"] * 24, end=True), strict=True
        ):
            np.testing.assert_allclose(got, expected, atol=1e-4)
    assert sizes[None] > sizes[2_000_000] > sizes[1] == 1
    same(results[0], results[1])
    same(results[0], results[2])


def test_a_full_device_halves_the_batch(checkpoints: dict[str, Path], model: TorchModel) -> None:
    small = load(str(checkpoints["llama"]))
    assert isinstance(small, TorchModel)

    def refuse(limit: int):
        def hook(_: object, __: object, named: dict[str, torch.Tensor]) -> None:
            if len(named["input_ids"]) > limit:
                raise torch.OutOfMemoryError("no more")

        return hook

    handle = small.network.register_forward_pre_hook(refuse(5), with_kwargs=True)
    prompts = some_prompts(20)
    same(
        small.generate(prompts, n=3, temperature=1.0, max_new_tokens=5),
        model.generate(prompts, n=3, temperature=1.0, max_new_tokens=5),
    )
    handle.remove()
    small.network.register_forward_pre_hook(refuse(0), with_kwargs=True)
    with pytest.raises(ResourceError, match="too little memory for a single row"):
        small.generate(prompts)


def test_the_context_ends_an_answer(models: dict[str, TorchModel]) -> None:
    for kind in KINDS:
        model = models[kind]
        long = "x" * 120
        samples = model.generate([long, "save"], n=4, temperature=3.0, max_new_tokens=200)
        for row in samples:
            for sample in row:
                assert sample.prompt_tokens + sample.completion_tokens <= 128
                assert (sample.prompt_tokens + len(sample.token_ids) == 128) == (
                    sample.finish_reason == "length"
                )
        assert {sample.finish_reason for sample in samples[0]} == {"length"}
        with pytest.raises(
            PomonaError, match=r"prompt 2: needs 129 tokens, and .* takes 128 — shorten it"
        ):
            model.generate(["save", "x" * 128])


def test_progress_counts_prompts(model: TorchModel) -> None:
    seen: list[tuple[int, int]] = []
    model.progress = lambda done, total: seen.append((done, total))
    try:
        model.generate(some_prompts(100), n=2, temperature=1.0, max_new_tokens=2)
    finally:
        model.progress = None
    assert len(seen) > 1
    assert seen[-1] == (100, 100)
    assert seen == sorted(seen)


def test_no_prompts(model: TorchModel) -> None:
    assert model.generate([]) == []
    assert model.score([], []) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"n": 0}, "n is 0 — ask for at least one sample"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0 — ask for at least one token"),
        ({"temperature": -0.1}, "temperature is -0.1 — use 0 for the likeliest"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"n": 2, "temperature": [0.0]}, "1 temperatures for n=2 samples"),
        ({"top_p": 0.0}, "top_p is 0.0 — use a number above 0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"min_p": 1.0}, "min_p is 1.0 — use a number from 0"),
        ({"min_p": -0.1}, "min_p is -0.1"),
    ],
)
def test_arguments_out_of_range(model: TorchModel, arguments: dict[str, object], text: str) -> None:
    with pytest.raises(PomonaError, match=text.replace("(", r"\(")):
        model.generate(["save"], **arguments)  # pyright: ignore[reportArgumentType]


def test_mixed_and_half_arithmetic_stay_near(
    checkpoints: dict[str, Path], model: TorchModel
) -> None:
    prompts, answers = some_prompts(10), ["delete the page"] * 10
    exact = np.concatenate(model.score(prompts, answers))
    for dtype in ("mixed", "bfloat16"):
        rough = np.concatenate(load(str(checkpoints["llama"]), dtype=dtype).score(prompts, answers))
        assert rough.dtype == np.float32
        assert 0 < np.abs(rough - exact).max() < 0.5
