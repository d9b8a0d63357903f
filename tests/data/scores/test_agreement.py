"""The scores against independent references: transformers' loss and generate, naive formulas in
float64, numerical gradients.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, strategies as st

from pomona.data.scores import score
from pomona.models import load
from pomona.models.torch import Probe, TorchModel, Unit, statistics

from .conftest import PROMPT


def scored(table: pa.Table, folder: Path, **options: object) -> pa.Table:
    score(table, folder / "out.parquet", **options)  # pyright: ignore[reportArgumentType]
    return pq.read_table(folder / "out.parquet")


def loss_of(network: torch.nn.Module, ids: list[int], first: int) -> float:
    """Transformers' own loss of the tokens from `first` on."""
    labels = torch.tensor([[*[-100] * first, *ids[first:]]])
    with torch.inference_mode():
        return network(input_ids=torch.tensor([ids]), labels=labels).loss.item()


def naive_el2n(network: torch.nn.Module, ids: list[int], first: int) -> float:
    with torch.inference_mode():
        p = (
            network(input_ids=torch.tensor([ids]))
            .logits[0, first - 1 : -1]
            .double()
            .softmax(dim=-1)
        )
    onehot = torch.nn.functional.one_hot(torch.tensor(ids[first:]), p.shape[-1])
    return (p - onehot).norm(dim=-1).mean().item()


def test_pairs_agree_with_transformers_and_the_naive_formula(
    pairs: pa.Table, model: TorchModel, tmp_path: Path
) -> None:
    scores = scored(
        pairs,
        tmp_path,
        models=["ui-xs"],
        scores=["perplexity", "el2n"],
        prompt=PROMPT,
        completion="translation",
    )
    for row in scores.to_pylist():
        prompt = model.codec.prompts([PROMPT.format_map(row)])[0]
        ids = [*prompt, *model.codec.completions([row["translation"]], end=True)[0]]
        assert np.log(row["perplexity"]) == pytest.approx(
            loss_of(model.network, ids, len(prompt)), abs=2e-5
        )
        assert row["el2n"] == pytest.approx(naive_el2n(model.network, ids, len(prompt)), abs=2e-6)


def test_texts_agree_with_transformers_with_and_without_a_start_token(
    pairs: pa.Table, model: TorchModel, gpt2: Path, tmp_path: Path
) -> None:
    other = load(str(gpt2), device="cpu")
    assert isinstance(other, TorchModel)
    table = pairs.slice(0, 12)
    scores = scored(table, tmp_path, models=["ui-xs", str(gpt2)], column="english").to_pylist()
    for row in scores:
        ids = model.codec.completions([row["english"]], end=False)[0]
        if len(ids) < 2:
            assert row["perplexity@ui-xs"] is None
        else:
            assert np.log(row["perplexity@ui-xs"]) == pytest.approx(
                loss_of(model.network, ids, 1), abs=2e-5
            )
        if len(ids) < 48:
            assert np.log(row[f"perplexity@{gpt2.name}"]) == pytest.approx(
                loss_of(other.network, [0, *ids], 1), abs=2e-5
            )


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 60.0))
def test_the_kernel_is_the_naive_formula(seed: int, scale: float) -> None:
    draw = np.random.default_rng(seed)
    logits = torch.from_numpy((draw.standard_normal((5, 37)) * scale).astype(np.float32))
    targets = torch.from_numpy(np.array([0, 36, *draw.integers(0, 37, 2), int(logits[4].argmax())]))
    exact = logits.double()
    loss = torch.nn.functional.cross_entropy(exact, targets, reduction="none")
    error = (exact.softmax(dim=-1) - torch.nn.functional.one_hot(targets, 37)).norm(dim=-1)
    for given_logits in (logits, exact):  # the kernel, torch
        found = torch.empty(5), torch.empty(5)
        statistics(given_logits.clone(), targets, *found)
        torch.testing.assert_close(found[0].double(), loss, atol=2e-6, rtol=2e-6)
        torch.testing.assert_close(found[1].double(), error, atol=2e-6, rtol=2e-6)


def test_logits_that_are_no_numbers_are_seen() -> None:
    found = torch.empty(2), torch.empty(2)
    statistics(
        torch.tensor([[0.0, float("nan"), 1.0], [0.0, float("-inf"), 1.0]]),
        torch.tensor([0, 1]),
        *found,
    )
    assert not torch.isfinite(found[0]).any()


def numerical_norms(
    network: torch.nn.Module, ids: list[int], first: int, step: float = 1e-5
) -> np.ndarray:
    """Norm at each input token of the gradient of the mean target logit, by central differences of
    every embedding component.
    """
    table = network.get_input_embeddings()(torch.tensor([ids[:-1]]))  # pyright: ignore[reportCallIssue]
    count = table[0].numel()
    moved = (
        table
        + step
        * torch.cat([torch.eye(count), -torch.eye(count)]).view(-1, *table.shape[1:]).double()
    )
    with torch.inference_mode():
        logits = torch.cat(
            [network(inputs_embeds=part).logits[:, first - 1 :] for part in moved.split(64)]
        )
    means = logits.gather(2, torch.tensor(ids[first:]).expand(2 * count, -1)[..., None]).mean(
        dim=(1, 2)
    )
    return ((means[:count] - means[count:]) / (2 * step)).view(table.shape[1:]).norm(dim=-1).numpy()


def test_vog_agrees_with_numerical_gradients(
    random_pair: tuple[Path, Path], tmp_path: Path
) -> None:
    norms, other = [], Unit(np.arange(5, 30, dtype=np.int32), 1)
    for folder in random_pair:
        model = load(str(folder), device="cpu")
        assert isinstance(model, TorchModel)
        model.network.double()
        ids = [0, *model.codec.completions(["Save the draft"], end=False)[0]]
        norms.append(numerical_norms(model.network, ids, 1))
        unit = Unit(np.array(ids, np.int32), 1)
        np.testing.assert_allclose(Probe(model).gradients([other, unit])[1], norms[-1], rtol=1e-6)
        np.testing.assert_allclose(
            Probe(model).gradients([Unit(unit.ids, 3), other])[0],
            numerical_norms(model.network, ids, 3),
            rtol=1e-6,
            atol=1e-9,
        )
    table = pa.table({"text": ["Delete", "Save the draft"]})
    scores = scored(table, tmp_path, models=[str(folder) for folder in random_pair], scores=["vog"])
    assert scores["vog"][1].as_py() == pytest.approx(np.std(norms, axis=0).mean(), rel=1e-4)


def test_memorization_agrees_with_generate(
    pairs: pa.Table, model: TorchModel, tmp_path: Path
) -> None:
    texts = [
        " ".join(pairs["english"].to_pylist()[start : start + 10]) for start in range(0, 40, 10)
    ]
    scores = scored(
        pa.table({"text": texts}),
        tmp_path,
        models=["ui-xs"],
        scores=["memorization"],
        memorize=(6, 10),
    )
    expected = []
    for text in texts:
        ids = model.codec.completions([text], end=False)[0]
        with torch.inference_mode():
            out = model.network.generate(  # pyright: ignore[reportCallIssue]
                torch.tensor([ids[:6]]),
                do_sample=False,
                max_new_tokens=10,
                eos_token_id=None,
                pad_token_id=0,
            )
        expected.append(np.mean(out[0, 6:].numpy() == np.array(ids[6:16])))
    assert scores["memorization"].to_pylist() == pytest.approx(expected)
    wanted = {"prompt": PROMPT, "completion": "translation"}
    learnt = scored(pairs, tmp_path, models=["ui-xs"], scores=["memorization"], **wanted)[
        "memorization"
    ].to_numpy()
    for row, share in zip(pairs.to_pylist()[:8], learnt, strict=False):
        prompt = model.codec.prompts([PROMPT.format_map(row)])[0]
        target = np.array(model.codec.completions([row["translation"]], end=True)[0][:32])
        with torch.inference_mode():
            out = model.network.generate(  # pyright: ignore[reportCallIssue]
                torch.tensor([prompt]),
                do_sample=False,
                max_new_tokens=len(target),
                eos_token_id=None,
                pad_token_id=0,
            )
        assert share == pytest.approx(np.mean(out[0, len(prompt) :].numpy() == target))


def test_batches_change_rounding_alone(pairs: pa.Table, tmp_path: Path) -> None:
    pairs = pairs.slice(0, 12)
    options = {
        "models": ["ui-xs", "ui-s@10"],
        "scores": ["perplexity", "el2n", "vog"],
        "prompt": PROMPT,
        "completion": "translation",
    }
    together = scored(pairs, tmp_path, **options)
    one_by_one = scored(pairs, tmp_path, memory=1, **options)
    shuffled = np.random.default_rng(0).permutation(len(pairs))
    another_order = scored(pairs.take(shuffled), tmp_path, **options)
    for name in ("perplexity@ui-xs", "perplexity@ui-s@10", "el2n", "vog"):
        want = together[name].to_numpy()
        np.testing.assert_allclose(one_by_one[name].to_numpy(), want, rtol=1e-4)
        np.testing.assert_allclose(another_order[name].to_numpy(), want[shuffled], rtol=1e-4)


def test_a_network_run_whole_gives_the_same(pairs: pa.Table, gpt2: Path) -> None:
    for uri in ("ui-xs", str(gpt2)):
        probe = Probe(load(uri, device="cpu"))
        units = [
            Unit(np.array(ids[:40], np.int32), 1)
            for ids in probe.codec.completions(pairs["english"].to_pylist(), end=True)
        ]
        assert not probe._whole
        apart = probe.token_scores(units[:10]), probe.gradients(units[:10])
        probe._whole = True
        whole = probe.token_scores(units[:10]), probe.gradients(units[:10])
        for a, b, c, d in zip(apart[0], whole[0], apart[1], whole[1], strict=True):
            np.testing.assert_allclose(a.loss, b.loss, atol=1e-4)
            np.testing.assert_allclose(a.error, b.error, atol=1e-5)
            np.testing.assert_allclose(c, d, rtol=1e-3)
