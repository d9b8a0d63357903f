"""Models are trained: from random weights, or from a checkpoint on other items."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pomona.files import write_json
from pomona.ledger import Meter
from pomona.models import training_flops
from pomona.recipe.steps import Cost, StepContext, checkpoint
from pomona.recipe.steps.tables import read_items

if TYPE_CHECKING:
    from pomona.models import Codec
    from pomona.tasks import Items
    from pomona.train import Examples, Fitted, Order

    Scheduled = Callable[[Items], Order]


def finetune(step: StepContext) -> Cost:
    """Continue a model on the items for a fixed budget of tokens."""
    return train_and_save(step, *trainable(step))


def pretrain(step: StepContext) -> Cost:
    """A Llama-architecture model of the size in the step's parameters, from random weights."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from pomona.models import Codec

    tokenizer = AutoTokenizer.from_pretrained(step.inputs["tokenizer"], local_files_only=True)
    size = step.params["size"]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=size["hidden"],
        intermediate_size=size["intermediate"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        max_position_embeddings=step.params["context"],
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(step.params["settings"]["seed"])
    model: Any = LlamaForCausalLM._from_config(config, attn_implementation="eager")
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    device = torch.device(step.runtime.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    codec = Codec(step.inputs["tokenizer"], model, chat=False)
    return train_and_save(
        step,
        model.to(device),
        codec,
        checkpoints=tuple(step.params["checkpoints"]),
        temperature=step.params["temperature"],
    )


def trainable(step: StepContext) -> tuple[Any, Codec]:
    """The step's model in float32 on the run's device, and its codec."""
    import torch
    from transformers import AutoModelForCausalLM

    from pomona.models import Codec, quiet

    folder = checkpoint(step.inputs["model"])
    device = torch.device(step.runtime.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with quiet():
        model: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation="eager",
        )
    return model.to(device), Codec(folder, model, chat=step.params["chat"])


def train_and_save(
    step: StepContext,
    model: Any,
    codec: Codec,
    *,
    checkpoints: tuple[float, ...] = (),
    temperature: float = 1,
    scheduled: Scheduled | None = None,
) -> Cost:
    """Train on the step's items under its settings; leaves the model, `training.json` and the loss
    of every step.

    `scheduled` gives the order of training from the items, where it is not the usual one.
    """
    from pomona import train
    from pomona.models import shape_of

    items = read_items(step.inputs["items"])
    examples = train.encode(
        codec,
        items.prompts,
        items.completions,
        max_tokens=step.params["max_tokens"],
        repeats=train.temperature_repeats(items.groups, temperature),
    )
    said = step.params["settings"]
    pruning = train.GradualPruning(**said["pruning"]) if "pruning" in said else None
    settings = train.TrainSettings(**{**said, "checkpoints": checkpoints, "pruning": pruning})
    with Meter() as meter:
        order = scheduled(items) if scheduled else train.shuffled
        fitted = train.fit(
            model, codec.tokenizer, examples, step.scratch, settings,
            order=order, progress=step.advance,
        )  # fmt: skip
    train.save_checkpoint(model, codec.tokenizer, step.out / "model")
    # Not moved: a kill before this result has its name sweeps it away, and a training that goes on
    # from its last checkpoint does not pass the marks before that again.
    for kept in train.kept_checkpoints(step.scratch):
        shutil.copytree(kept, step.out / kept.name, copy_function=_linked)
    flops = training_flops(shape_of(model), fitted.tokens, examples.mean_context)
    cost = Cost(flops, fitted.tokens, meter.cpu_seconds, meter.wall_seconds)
    _write_summary(step, cost, examples, fitted)
    return cost


def _linked(source: str, target: str) -> None:
    """A second name for a file, which takes no room; a copy where the disk has no such names."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _write_summary(step: StepContext, cost: Cost, examples: Examples, fitted: Fitted) -> None:
    summary = {
        "tokens": cost.tokens,
        "flops": cost.flops,
        "steps": fitted.steps,
        "examples": len(examples),
        "unique_tokens": int(examples.lengths.sum()),
        "too_long": examples.too_long,
        "cpu_seconds": cost.cpu_seconds,
        "dtype": fitted.dtype,
        "settings": step.params["settings"],
    }
    write_json(step.out / "model" / "training.json", summary)
    write_json(step.out / "losses.json", [round(loss, 5) for loss in fitted.losses])
