from __future__ import annotations

import copy
import shutil
import signal
import subprocess
from dataclasses import replace
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
    GradualPruning,
    TrainSettings,
    collate,
    completion_loss,
    encode,
    fit,
    kept_checkpoints,
    save_checkpoint,
    training_dtype,
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
    with pytest.raises(PomonaError, match=r"row 2: weight nan is not a finite number ≥ 0"):
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
        dtype="float32",
        checkpoints=(0.1, 0.5),
    )  # pyright: ignore[reportArgumentType]
    done = fit(network, tokenizer, examples, tmp_path, settings)
    assert done.tokens >= 8000
    assert len(done.losses) == done.steps
    assert done.losses[-1] < 0.7 * done.losses[0]
    assert [p.name for p in kept_checkpoints(tmp_path)] == ["mark-0.1", "mark-0.5"]


@pytest.mark.parametrize(
    ("device", "has", "dtype"),
    [
        ("cpu", set(), "float32"),
        ("cpu", {"_is_avx512_bf16_supported"}, "bfloat16"),
        ("cpu", {"_is_amx_tile_supported"}, "bfloat16"),
        ("cuda", {"cuda"}, "bfloat16"),
        ("cuda", {"_is_avx512_bf16_supported"}, "float32"),
        ("mps", {"_is_avx512_bf16_supported"}, "float32"),
    ],
)
def test_training_computes_in_what_the_device_has(
    monkeypatch: pytest.MonkeyPatch, device: str, has: set[str], dtype: str
) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda name=name: name in has)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: "cuda" in has)
    assert training_dtype(torch.device(device)) == dtype
    assert training_dtype(torch.device(device), "float32") == "float32"
    assert training_dtype(torch.device(device), "bfloat16") == "bfloat16"


def test_without_instructions_for_it_nothing_is_cast_to_bfloat16(
    monkeypatch: pytest.MonkeyPatch, network: PreTrainedModel, codec: Codec, examples: Examples,
    tmp_path: Path,
) -> None:  # fmt: skip
    seen: set[bool] = set()
    network.get_input_embeddings().register_forward_pre_hook(
        lambda *_: seen.add(torch.is_autocast_enabled("cpu"))
    )
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    few = TrainSettings(tokens=300, batch_tokens=256)
    for settings, dtype in ((few, "float32"), (replace(few, dtype="bfloat16"), "bfloat16")):
        done = fit(network, codec.tokenizer, examples, tmp_path / dtype, settings)
        assert (done.dtype, seen) == (dtype, {dtype == "bfloat16"})
        seen.clear()


DAMAGES = {
    "trainer_state.json": ("{}", "`global_step` is null, not that of checkpoint-4"),
    "losses.json": ("[1.0]", "does not hold the losses of 4 steps"),
    "optimizer.pt": ("", "the training cannot go on from it: "),
    "scheduler.pt": ("PK", "the training cannot go on from it: "),
    "model.safetensors": ("{}", "the training cannot go on from it: "),
    "rng_state.pth": ("none", "the training cannot go on from it: "),
}


def test_a_damaged_checkpoint_of_a_training_under_way_is_named(
    network: PreTrainedModel, codec: Codec, examples: Examples, tmp_path: Path
) -> None:
    settings = TrainSettings(tokens=2000, batch_tokens=256, dtype="float32", save_every=2)
    tokenizer, begun = codec.tokenizer, copy.deepcopy(network.state_dict())

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(network, tokenizer, examples, tmp_path / "work", settings, progress=stop)
    work = last = tmp_path
    for name, (text, message) in DAMAGES.items():
        work = shutil.copytree(tmp_path / "work", tmp_path / name)
        last = work / "checkpoint-4"
        (last / name).write_text(text)
        with pytest.raises(PomonaError) as caught:
            fit(network, tokenizer, examples, work, settings)
        assert message in str(caught.value)
        assert str(caught.value).startswith(str(last))
        assert f" — delete {last} and run again" in str(caught.value)
    shutil.rmtree(last)
    network.load_state_dict(begun)
    assert fit(network, tokenizer, examples, work, settings).steps > 5


def test_a_flop_budget_is_spent_and_not_much_more(
    network: PreTrainedModel, codec: Codec, examples: Examples, tmp_path: Path
) -> None:
    budget = 2e9
    done = fit(
        network,
        codec.tokenizer,
        examples,
        tmp_path,
        TrainSettings(flops=budget, batch_tokens=256, dtype="float32"),
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
    torch.set_num_threads(1)  # its pool is made anew after a fork, which two threads at once spoil
    tokenizer = AutoTokenizer.from_pretrained(folder / "start")
    model = AutoModelForCausalLM.from_pretrained(folder / "start", dtype=torch.float32)
    pairs = [(f"<|de|>Save {i} pages<|to|>", f"{i} Seiten speichern") for i in range(60)]
    examples = encode(Codec(folder / "start", model, chat=False), *zip(*pairs), max_tokens=64)
    settings = TrainSettings(tokens=6000, batch_tokens=512, learning_rate=5e-3, optimizer="muon", dtype="float32", save_every=3)
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
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


def test_a_killed_training_continues_to_the_same_weights(
    network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tmp_path: Path, forked: Path
) -> None:
    save_checkpoint(network, tokenizer, tmp_path / "start")
    command = [forked / "python", "-c", CHILDREN, str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.stdout.split() == ["0", str(-signal.SIGKILL), "0"], done.stderr[-2000:]
    assert (tmp_path / "a/model.safetensors").read_bytes() == (
        tmp_path / "b/model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("step", "share"), [(9, None), (10, 0.1), (11, None), (15, 0.5625), (20, 0.8), (30, 0.9)]
)
def test_sparsity_rises_as_zhu_and_gupta_say(step: int, share: float | None) -> None:
    pruning = GradualPruning(0.9, initial=0.1, begin=0.1, end=0.3, every=5)
    assert pruning.at(step, 100) == (None if share is None else pytest.approx(share))
    for wrong in ({"level": 1.0}, {"level": 0.5, "initial": 0.6}, {"level": 0.5, "begin": 0.8}):
        with pytest.raises(PomonaError, match="give shares from 0 to 1, initial at most level"):
            GradualPruning(**wrong)
    for steps in (
        1,
        2,
        7,
        12,
    ):  # too few for one stage of ten: still as many zeros as were asked for
        told = [GradualPruning(0.9).at(step, steps) for step in range(1, steps + 1)]
        assert max(filter(None, told)) == 0.9


def test_a_training_prunes_on_the_way_and_goes_on_so(
    network: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    tmp_path: Path,
) -> None:
    pruning = GradualPruning(0.8, begin=0.2, end=0.8, every=2)
    settings = TrainSettings(
        tokens=6000,
        batch_tokens=512,
        dtype="float32",
        pruning=pruning,
        checkpoints=(0.5,),
        save_every=7,
    )
    again = copy.deepcopy(network)
    whole = fit(network, tokenizer, examples, tmp_path / "whole", settings)
    weight = network.get_parameter("model.layers.0.mlp.up_proj.weight")
    assert (weight == 0).sum().item() == round(0.8 * weight.numel())
    assert (network.get_input_embeddings().weight != 0).all()
    marked = load_file(tmp_path / "whole/mark-0.5/model.safetensors")
    share = (marked["model.layers.0.mlp.up_proj.weight"] == 0).float().mean().item()
    assert 0.4 < share < 0.8
    # Killed after a checkpoint: what was pruned by then stays pruned.
    last = min((tmp_path / "whole").glob("checkpoint-*"), key=lambda path: int(path.name[11:]))
    shutil.copytree(last, tmp_path / "again" / last.name)
    went_on = fit(again, tokenizer, examples, tmp_path / "again", settings)
    assert went_on.losses == whole.losses
    assert torch.equal(weight, again.get_parameter("model.layers.0.mlp.up_proj.weight"))
