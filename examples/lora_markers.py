"""Train a LoRA adapter on rows that `pomona markers apply` wrote, through the chat template.

    pip install peft
    python examples/lora_markers.py training.parquet adapter --ask 4
    python examples/lora_markers.py training.parquet adapter --model LLAMA-8B --dry-run

peft is not installed with Pomona. The loss covers each answer with its list. Run it again after a
kill and it goes on from its last checkpoint. `--dry-run` reads the configuration of the model
alone: a folder with its config.json is enough.

Memory is an estimate from above: every token of a batch is an answer's, and of the layers only one
keeps what it computed, the others their inputs, since the rest is computed again (gradient
checkpointing, Chen et al. 2016). FLOPs are those of pomona.models.flops: a frozen weight costs two
operations a token forward, two for the gradient of its input and two when it is computed again,
and none for a gradient of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from pomona.errors import PomonaError
from pomona.files import atomic_directory, check_ours
from pomona.markers import (
    Trained,
    detach,
    escape,
    read_answer,
    read_trained,
    write_trained,
)
from pomona.models import forward_flops, load, locate, quiet, shape_of
from pomona.records import read
from pomona.train import TrainSettings, encode, fit
from pomona.workspace import Workspace, stamp

GB, KIND = 1e9, "an adapter"


@dataclass(frozen=True)
class Size:
    """What a training takes. Memory in bytes; `trained` and `parameters` are numbers of weights."""

    parameters: int
    trained: int
    weights: float
    adapter: float
    activations: float
    flops: float

    @property
    def memory(self) -> float:
        """All of it."""
        return self.weights + self.adapter + self.activations

    def told(self, given: argparse.Namespace) -> str:
        """For people."""
        share, n = self.trained / self.parameters, self.parameters
        return (
            f"parameters  {n:,}, and {self.trained:,} ({share:.2%}) in the adapter, "
            f"which are trained\n"
            f"memory      {self.memory / GB:.1f} GB at most: {self.weights / GB:.1f} of weights, "
            f"{self.adapter / GB:.2f} of the adapter with its gradients and optimizer, "
            f"{self.activations / GB:.1f} of activations\n"
            f"work        {self.flops:.2e} FLOPs for {given.tokens:,} tokens"
        )


def sized(network: Any, given: argparse.Namespace) -> Size:
    """What a training of this network takes, which may be on the device "meta"."""
    item = network.dtype.itemsize
    shape, config = shape_of(network), network.config.get_text_config(decoder=True)
    inner = [
        module.weight.shape
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and not name.endswith("lm_head")
    ]
    trained = given.rank * sum(sum(sides) for sides in inner)
    tokens = given.batch_tokens
    # Between two layers each token has a state. Within one: what enters each matrix product and
    # comes out of it, in the type of the products; of attention no matrix of scores is kept.
    states = shape.layers * tokens * shape.hidden * item
    within = tokens * sum(sum(sides) for sides in inner) / shape.layers * 2
    # The logits, and their float32 copy, its logarithms and its gradient.
    logits = tokens * config.vocab_size * (2 + 3 * 4)
    forward = forward_flops(shape, (given.max_tokens + 1) / 2)
    again = forward - 2 * shape.output
    work = given.tokens * (2 * forward + again + 8 * trained)
    # In float32: the weight, its gradient and AdamW's two moments.
    return Size(
        shape.parameters, trained, shape.parameters * item, trained * 16,
        states + within + logits, work,
    )  # fmt: skip


def dry_run(given: argparse.Namespace) -> Size:
    """The size of a training, from config.json alone."""
    folder = Path(given.model)
    folder = folder if (folder / "config.json").is_file() else locate(given.model)
    with quiet(), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        dtype = getattr(torch, given.dtype or "float32")
        network: Any = AutoModelForCausalLM.from_config(
            config, dtype=dtype, trust_remote_code=False
        )
        network.tie_weights()
    return sized(network, given)


def rows_of(path: Path) -> tuple[list[str], list[str]]:
    """Prompts and answers in the training form."""
    table = read(path).to_table()
    if "marker_form" not in table.column_names or not table.num_rows:
        remedy = "give what pomona markers apply wrote"
        raise PomonaError("has no rows in the training form", where=path, remedy=remedy)
    told = json.loads(table["marker_form"][0].as_py())
    kinds = [str(table[told[name]].type) for name in ("prompt", "completion")]
    if kinds != ["string", "string"]:
        remedy = "this recipe takes a prompt and an answer; TRL takes chats"
        raise PomonaError(f"holds {kinds[0]}, not texts", where=path, remedy=remedy)
    return table[told["prompt"]].to_pylist(), table[told["completion"]].to_pylist()


def workspace(given: argparse.Namespace) -> Workspace:
    """The folder of the training. Raises PomonaError where its place or that of the adapter is
    somebody else's, or has something finished or other.
    """
    if (given.out / "adapter_config.json").exists():
        raise PomonaError("is there already", where=given.out, remedy="name another folder")
    check_ours(given.out, KIND)
    ours = ("model", "rank", "alpha", "rate", "tokens", "batch_tokens", "max_tokens", "seed", "ask")
    told = {name: getattr(given, name) for name in ours} | {"rows": stamp([given.rows])}
    work = Workspace(Path(f"{given.out}.work"), told)
    work.check()
    if changed := work.differences():
        message = f"is of a training with another {', '.join(changed)}"
        raise PomonaError(message, where=work.root, remedy="give the same again, or delete it")
    return work


def adapted(network: Any, given: argparse.Namespace) -> Any:
    """The network with an adapter beside every matrix but the output's, which alone is trained."""
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise SystemExit(f"{error.name} is not installed: pip install peft") from None
    torch.manual_seed(given.seed)  # of the adapter's first weights
    settings = LoraConfig(
        r=given.rank, lora_alpha=given.alpha, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with warnings.catch_warnings():  # peft 0.21 asks transformers by a name that is to go
        warnings.simplefilter("ignore", FutureWarning)
        model = get_peft_model(network, settings)
    model.activation_checkpointing_enable()
    return model


def train(given: argparse.Namespace) -> None:
    """Train, save the adapter with `markers.json`, and ask for answers to what it has not seen."""
    work = workspace(given)
    prompts, completions = rows_of(given.rows)
    trained = read_trained(f"{given.rows}.markers.json")
    with work.locked():
        work.begin()
        model = trained_in(work.folder, given, prompts, completions, trained)
        work.remove()
    count = len(prompts) - given.ask
    ask(model, [detach(text, trained.form) for text in prompts[count:]], trained)


def trained_in(
    work: Path,
    given: argparse.Namespace,
    prompts: list[str],
    completions: list[str],
    trained: Trained,
) -> Any:
    """The model with the adapter, which is written as well."""
    torch.set_num_threads(given.threads)
    model: Any = load(given.model, need={"train"}, device=given.device, dtype=given.dtype)
    model.codec.chat = bool(model.codec.tokenizer.chat_template)
    size = sized(model.network, given)
    print(size.told(given), flush=True)
    before, network = peak(), adapted(model.network, given)
    count = len(prompts) - given.ask
    examples = encode(
        model.codec, prompts[:count], completions[:count], max_tokens=given.max_tokens
    )
    settings = TrainSettings(
        tokens=given.tokens, batch_tokens=given.batch_tokens, learning_rate=given.rate,
        weight_decay=0.0, seed=given.seed, save_every=given.save_every,
    )  # fmt: skip
    started, first = time.perf_counter(), []

    def progress(done: int, steps: int) -> None:
        first.append(done)
        if done % 5 == 0 or done == steps:
            print(f"step {done} of {steps}", file=sys.stderr, flush=True)

    fitted = fit(network, model.codec.tokenizer, examples, work, settings, progress=progress)
    seconds = time.perf_counter() - started
    tokens = fitted.tokens * (fitted.steps - first[0] + 1) / fitted.steps if first else 0
    losses = fitted.losses
    tenth = max(1, len(losses) // 10)
    print(
        f"trained     {fitted.steps} steps, {fitted.tokens:,} tokens; here {tokens / seconds:.0f} "
        f"a second; loss {sum(losses[:tenth]) / tenth:.2f} to {sum(losses[-tenth:]) / tenth:.2f}\n"
        f"memory      {peak() / GB:.1f} GB at most, {before / GB:.1f} before training"
    )
    with atomic_directory(given.out, KIND) as out:
        network.save_pretrained(out)
        model.codec.tokenizer.save_pretrained(out)
        write_trained(out, trained)
    return model


def ask(model: Any, prompts: list[str], trained: Trained) -> None:
    """Print the answers to prompts without lists, and what was inferred."""
    model.network.eval()
    asked = [escape(text, trained.form) for text in prompts]
    for text, (sample,) in zip(prompts, model.generate(asked, max_new_tokens=64), strict=True):
        values, answer = read_answer(sample.text, trained.taxonomy, trained.form)
        print(
            json.dumps({"prompt": text, "inferred": values, "answer": answer}, ensure_ascii=False)
        )


def peak() -> float:
    """The most memory of this process so far, in bytes; on a GPU that of its tensors."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def main() -> None:
    """Train, or say what a training would take."""
    parser = argparse.ArgumentParser(description="LoRA on rows in the training form of markers.")
    parser.add_argument("rows", type=Path, help="what pomona markers apply wrote")
    parser.add_argument("out", type=Path, help="folder of the adapter")
    parser.add_argument("--model", default="smollm2", help="a name, or a folder")
    parser.add_argument("--device", help="cpu, cuda; a GPU where there is one")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], help="of frozen weights")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=int, default=32)
    parser.add_argument("--rate", type=float, default=1e-3, help="the highest, of a cosine")
    parser.add_argument("--tokens", type=int, default=25_000, help="to train on, without padding")
    parser.add_argument("--batch-tokens", type=int, default=512, help="of a step, with padding")
    parser.add_argument("--max-tokens", type=int, default=512, help="of a row; longer are left out")
    parser.add_argument("--save-every", type=int, default=10, help="steps")
    parser.add_argument("--ask", type=int, default=0, help="rows at the end: asked, not learned")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dry-run", action="store_true", help="say what it would take")
    given = parser.parse_args()
    try:
        if given.dry_run:
            print(dry_run(given).told(given))
        else:
            train(given)
    except PomonaError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
