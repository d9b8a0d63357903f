"""Interpolation with the nearest states, on a real checkpoint: the formula, in batches of several
groups, and the datastore that is kept.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pomona.errors import PomonaError
from pomona.memory import Interpolation
from pomona.models import ModelError, Request, locate
from pomona.models.torch import Datastore, TorchModel

ROWS = [
    ("de", "Delete the page", "Weg mit der Seite"),
    ("de", "Delete", "Weg damit"),
    ("fr", "Delete the page", "Ouste la page"),
    ("de", "Delete the user", "Weg mit dem Benutzer"),
    ("fr", "Delete", "Ouste"),
]
GROUPS, PROMPTS, ANSWERS = (
    [group for group, _, _ in ROWS],
    [f"<|{group}|>{text}<|to|>" for group, text, _ in ROWS],
    [answer for _, _, answer in ROWS],
)
ASKED = ["<|de|>Delete the page<|to|>", "<|fr|>Delete the user<|to|>", "<|nl|>Delete<|to|>"]
OF = ["de", "fr", "nl"]


@pytest.fixture(scope="module")
def model() -> Iterator[TorchModel]:
    model = TorchModel("ui-xs", locate("ui-xs"))
    yield model
    asyncio.run(model.close())


@pytest.fixture(scope="module")
def store(model: TorchModel) -> Datastore:
    return Datastore.of_answers(model, PROMPTS, ANSWERS, GROUPS)


def texts(pools: list[list]) -> list[list[str]]:
    return [[sample.text for sample in pool] for pool in pools]


def test_p_is_what_the_formula_says(store: Datastore) -> None:
    lever = Interpolation(store, 20.0, 0.3, 4, "fr")
    start, end = store.span("fr")
    states = store.keys[start : start + 2] + 0.5
    logits = torch.linspace(-3, 3, 2 * 6144).view(2, 6144)
    led = lever(states[:, None], logits[:, None])[:, 0].exp().numpy()
    keys, tokens = store.keys[start:end].double().numpy(), store.tokens[start:end].tolist()
    for row, state in enumerate(states.double().numpy()):
        distances = ((keys - state) ** 2).sum(1)
        near = np.argsort(distances)[:4]
        weights = np.exp(-distances[near] / 20)
        expected = 0.7 * torch.softmax(logits[row].double(), 0).numpy()
        for entry, weight in zip(near, weights / weights.sum(), strict=True):
            expected[tokens[entry]] += 0.3 * weight
        np.testing.assert_allclose(led[row], expected, rtol=2e-4, atol=1e-9)
    assert lever.flops == 2 * (end - start) * store.keys.shape[1]


def test_entries_are_the_answers_tokens_within_their_groups(
    model: TorchModel, store: Datastore
) -> None:
    said = model.codec.completions([ANSWERS[2], ANSWERS[4]], end=True)
    start, end = store.span("fr")
    assert store.tokens[start:end].tolist() == [*said[0], *said[1]]
    assert store.span("nl") == (0, 0) and store.span() == (0, len(store.tokens))
    # what predicted a token is what, projected, gives the network's own probabilities
    head = model.network.get_output_embeddings()
    logs = torch.log_softmax(head(store.keys[start : start + len(said[0])]), dim=-1)
    own = model.score([PROMPTS[2]], [ANSWERS[2]], end=True)[0]
    np.testing.assert_allclose([float(row[t]) for row, t in zip(logs, said[0], strict=True)], own,
                               atol=1e-3)  # fmt: skip


def test_a_batch_of_several_groups_answers_each_from_its_own(
    model: TorchModel, store: Datastore
) -> None:
    lever = Interpolation(store, 20.0)
    asked = {"n": 3, "temperature": [0.0, 0.8, 0.8], "min_p": 0.05, "max_new_tokens": 12, "seed": 5}
    plain = model.generate(ASKED, **asked)
    led = model.generate(ASKED, steers=lever.of(OF), **asked)
    assert led[0][0].text == ANSWERS[0] and led[1][0].text.startswith("Ouste")
    assert texts(led)[2] == texts(plain)[2]  # nothing is known of its group
    for at, prompt in enumerate(ASKED):  # what else is in the batch changes nothing
        alone = model.generate([prompt], steers=lever.of(OF[at : at + 1]), **asked)
        assert texts(alone)[0] == texts(led)[at]
        for one, other in zip(alone[0], led[at], strict=True):
            np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-3)
    # Request by request, some led and some not, through the other way into the network.
    requests = [Request(prompt=p, max_tokens=12, min_p=0.05, seed=5) for p in ASKED]
    requests = [replace(r, steer=s) for r, s in zip(requests, lever.of(OF), strict=True)]
    draws = [(0, 0.0), (1, 0.8), (2, 0.8)]
    beside = [*requests, Request(prompt=ASKED[0], max_tokens=12, min_p=0.05, seed=5)]
    replies = asyncio.run(model.together([(request, draws) for request in beside]))
    assert texts(replies[:3]) == texts(led) and texts(replies[3:]) == texts(plain[:1])  # type: ignore[arg-type]


def test_no_weight_changes_nothing_to_the_bit(model: TorchModel, store: Datastore) -> None:
    asked = {"n": 4, "temperature": 1.0, "max_new_tokens": 12, "seed": 1}
    plain = model.generate(ASKED, **asked)
    led = model.generate(ASKED, steers=Interpolation(store, 20.0, 0.0).of(["de"] * 3), **asked)
    for one, other in zip(chain(*plain), chain(*led), strict=True):
        assert one.token_ids.tolist() == other.token_ids.tolist()
        np.testing.assert_array_equal(one.logprobs, other.logprobs)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_written_as_it_comes_is_what_is_built_in_memory(
    model: TorchModel, store: Datastore, tmp_path: Path, dtype: str
) -> None:
    path = tmp_path / "states.safetensors"
    for _ in range(2):  # one of ours is replaced
        kept = Datastore.of_answers(model, PROMPTS, ANSWERS, GROUPS, out=path, dtype=dtype)
    assert torch.equal(kept.keys, store.keys.to(kept.keys.dtype))
    assert torch.equal(kept.tokens, store.tokens)
    assert kept.groups == store.groups and kept.identity == model.identity
    assert (kept.digest == store.digest) == (dtype == "float32")
    assert kept.bytes == len(kept.tokens) * (4 + kept.keys.shape[1] * kept.keys.itemsize)
    assert load_file(path)["keys"].dtype == getattr(torch, dtype)  # other readers take it too
    found = model.generate(ASKED[:1], steers=Interpolation(kept, 20.0).of(["de"]))
    assert found[0][0].text == ANSWERS[0]
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_what_does_not_fit_is_refused(model: TorchModel, store: Datastore, tmp_path: Path) -> None:
    for settings, told in (
        ({"weight": 1.5}, "weight is 1.5"),
        ({"k": 0}, "k is 0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
    ):
        with pytest.raises(PomonaError, match=f"Interpolation: {told} — weight from 0 to 1"):
            replace(Interpolation(store, 20.0), **settings)
    with pytest.raises(PomonaError, match="2 prompts, 1 answer do not belong together"):
        Datastore.of_answers(model, ["a", "b"], ["c"])
    with pytest.raises(PomonaError, match='unknown dtype "int8" — float32 or float16'):
        Datastore.of_answers(model, ["a"], ["c"], dtype="int8")
    with pytest.raises(PomonaError, match="3 prompts but 1 to lead them — give one of steers"):
        model.generate(ASKED, steers=Interpolation(store, 20.0).of(["de"]))
    other = replace(store, identity="torch:other")
    with pytest.raises(ModelError, match="from another model — build them with this one"):
        model.generate(ASKED[:1], steers=Interpolation(other, 20.0).of(["de"]))
    theirs = tmp_path / "states.safetensors"
    theirs.write_text("mine")
    with pytest.raises(PomonaError, match="is no datastore"):
        Datastore.of_answers(model, PROMPTS, ANSWERS, out=theirs)
    assert theirs.read_text() == "mine"


def test_a_full_disk_leaves_the_store_that_was_there(
    model: TorchModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "states.safetensors"
    Datastore.of_answers(model, PROMPTS[:1], ANSWERS[:1], out=path)
    before = path.read_bytes()

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        Datastore.of_answers(model, PROMPTS, ANSWERS, out=path)
    assert path.read_bytes() == before and [*tmp_path.iterdir()] == [path]


def test_blocks_and_groups_are_searched_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    store = Datastore(keys, torch.arange(500), "x", {"a": (0, 200), "b": (200, 500)})
    states = torch.randn(40, 8, generator=torch.Generator().manual_seed(1))
    others = [
        torch.cdist(part, part).square().topk(5, largest=False).values[:, 1:].mean()
        for part in (keys[:200], keys[200:])
    ]
    spread = float(0.4 * others[0] + 0.6 * others[1])
    assert store.spread(4, sampled=20_000) == pytest.approx(spread, rel=0.02)
    expected = torch.cdist(states, keys[200:]).square().topk(7, largest=False)
    for block in (1 << 16, 64, 5):
        monkeypatch.setattr("pomona.models.torch.datastore._KEYS", block)
        distances, entries = store.nearest(states, 7, "b")
        torch.testing.assert_close(distances, expected.values, rtol=1e-3, atol=1e-3)
        assert torch.equal(entries, expected.indices + 200)
