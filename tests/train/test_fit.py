from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from pomona.errors import PomonaError
from pomona.models import Codec, shape_of, training_flops
from pomona.train import (
    Examples,
    TrainSettings,
    collate,
    completion_loss,
    encode,
    fit,
    kept_checkpoints,
    save_checkpoint,
)

PAIRS = [(f"<|de|>Save {i} pages<|to|>", f"{i} Seiten speichern") for i in range(60)]


@pytest.fixture
def examples(codec: Codec) -> Examples:
    return encode(codec, [p for p, _ in PAIRS], [c for _, c in PAIRS], max_tokens=64)


def test_a_completion_ends_with_the_end_token_and_long_pairs_are_counted(codec: Codec) -> None:
    encoded = encode(codec, ["a", "b"], ["x", "long " * 100], max_tokens=32)
    assert (len(encoded), encoded.too_long) == (1, 1)
    assert encoded.completions[0][-1] == codec.end
    with pytest.raises(PomonaError, match="none of 1 examples fits 8 tokens — raise max_tokens"):
        encode(codec, ["a"], ["long " * 100], max_tokens=8)
    with pytest.raises(PomonaError, match=r"row 1: weight nan is not a finite number ≥ 0"):
        encode(codec, ["a", "b"], ["x", "y"], max_tokens=8, weights=np.array([1.0, np.nan]))


def test_a_pair_that_just_fits_is_kept(codec: Codec) -> None:
    fits = encode(codec, ["<|de|>Save<|to|>"], ["Speichern"], max_tokens=64).lengths.sum()
    assert encode(codec, ["<|de|>Save<|to|>"], ["Speichern"], max_tokens=int(fits)).too_long == 0
    with pytest.raises(PomonaError, match="none of 1 examples fits"):
        encode(codec, ["<|de|>Save<|to|>"], ["Speichern"], max_tokens=int(fits) - 1)


def test_training_reads_chat_prompts_as_answering_does(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    talking = copy.deepcopy(tokenizer)
    talking.chat_template = "{% for m in messages %}User: {{ m['content'] }} {% endfor %}Answer:"
    save_checkpoint(network, talking, tmp_path / "m")
    encoded = encode(Codec(tmp_path / "m", network, chat=True), ["Hello"], ["Hallo"], max_tokens=32)
    assert tokenizer.decode(encoded.prompts[0].tolist()) == "User: Hello Answer:"


def test_the_loss_is_transformers_loss_on_the_completions(
    network: PreTrainedModel, examples: Examples
) -> None:
    batch = np.array([0, 11, 25])
    ours = completion_loss(network, collate(examples, batch, 0)).item()
    total, count = 0.0, 0
    for i in batch:
        ids = torch.tensor([[*examples.prompts[i], *examples.completions[i]]], dtype=torch.long)
        labels = ids.clone()
        labels[0, : len(examples.prompts[i])] = -100
        total += network(ids, labels=labels).loss.item() * len(examples.completions[i])
        count += len(examples.completions[i])
    assert ours == pytest.approx(total / count, abs=1e-5)


def test_a_weight_of_zero_takes_an_example_out_of_the_loss(
    network: PreTrainedModel, examples: Examples
) -> None:
    weights = np.ones(len(examples), np.float32)
    weights[1] = 0
    weighted = Examples(
        examples.prompts, examples.completions, weights, examples.repeats, examples.rows
    )
    both = completion_loss(network, collate(weighted, np.array([0, 1]), 0)).item()
    alone = completion_loss(network, collate(weighted, np.array([0]), 0)).item()
    assert both == pytest.approx(alone, abs=1e-5)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_training_lowers_the_loss_and_keeps_the_marks(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    tmp_path: Path,
    optimizer: str,
) -> None:
    settings = TrainSettings(
        tokens=8000,
        batch_tokens=512,
        learning_rate=5e-3,
        optimizer=optimizer,
        bf16=False,
        checkpoints=(0.1, 0.5),
    )  # pyright: ignore[reportArgumentType]
    done = fit(network, tokenizer, examples, tmp_path, settings)
    assert done.tokens >= 8000
    assert len(done.losses) == done.steps
    assert done.losses[-1] < 0.7 * done.losses[0]
    assert [p.name for p in kept_checkpoints(tmp_path)] == ["mark-0.1", "mark-0.5"]


def test_a_flop_budget_is_spent_and_not_much_more(
    network: PreTrainedModel, codec: Codec, examples: Examples, tmp_path: Path
) -> None:
    budget = 2e9
    done = fit(
        network,
        codec.tokenizer,
        examples,
        tmp_path,
        TrainSettings(flops=budget, batch_tokens=256, bf16=False),
    )
    spent = training_flops(shape_of(network), done.tokens, examples.mean_context)
    assert budget * 0.99 <= spent <= budget * 1.2
    with pytest.raises(PomonaError, match="give a budget in tokens or in FLOPs, one of them"):
        fit(network, codec.tokenizer, examples, tmp_path, TrainSettings(tokens=10, flops=budget))


def test_the_model_is_written_in_bfloat16_and_loads(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    before = copy.deepcopy(network.state_dict())
    save_checkpoint(network, tokenizer, tmp_path / "m")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    assert loaded.dtype == torch.bfloat16
    assert all(torch.equal(before[n], t) for n, t in network.state_dict().items())
    assert all(torch.equal(before[n].bfloat16(), t) for n, t in loaded.state_dict().items())
    written = load_file(tmp_path / "m/model.safetensors")
    assert (
        sum(t.numel() for t in written.values()) == network.num_parameters()
    )  # tied weights are written once


CHILDREN = """
import gc, os, sys, signal, torch
from pathlib import Path
from pomona.models import Codec
torch.set_num_threads(1)
from transformers import AutoModelForCausalLM, AutoTokenizer
from pomona.train import encode
from pomona.train import TrainSettings, fit, save_checkpoint
folder = Path(sys.argv[1])
def child(work, out, kill):
    tokenizer = AutoTokenizer.from_pretrained(folder / "start")
    model = AutoModelForCausalLM.from_pretrained(folder / "start", dtype=torch.float32)
    pairs = [(f"<|de|>Save {i} pages<|to|>", f"{i} Seiten speichern") for i in range(60)]
    examples = encode(Codec(folder / "start", model, chat=False), *zip(*pairs), max_tokens=64)
    settings = TrainSettings(tokens=6000, batch_tokens=512, learning_rate=5e-3, optimizer="muon", bf16=False, save_every=3)
    def progress(done, total):
        if done == kill:
            os.kill(os.getpid(), signal.SIGKILL)
    fit(model, tokenizer, examples, folder / work, settings, progress=progress)
    save_checkpoint(model, tokenizer, folder / out)
gc.freeze()
for case in (("straight", "a", -1), ("killed", "b", 8), ("killed", "b", -1)):
    pid = os.fork()
    if pid == 0:
        child(*case)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def test_a_killed_training_continues_to_the_same_weights(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    save_checkpoint(network, tokenizer, tmp_path / "start")
    command, environment = (
        [sys.executable, "-c", CHILDREN, str(tmp_path)],
        {**os.environ, "OMP_NUM_THREADS": "1"},
    )
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["0", str(-signal.SIGKILL), "0"], done.stderr[-2000:]
    assert (tmp_path / "a/model.safetensors").read_bytes() == (
        tmp_path / "b/model.safetensors"
    ).read_bytes()
