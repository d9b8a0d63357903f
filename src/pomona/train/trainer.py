"""Train a causal language model on completions: transformers' Trainer with our batches, loss,
budget and whole checkpoints.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from pomona.documents import read_json
from pomona.errors import PomonaError
from pomona.files import atomic_directory, write_json
from pomona.models import quiet, shape_of, training_flops
from pomona.train.batches import Examples, plan_batches

COMPLETE = "complete"


@dataclass(frozen=True)
class TrainSettings:
    """How to train. The budget is `tokens` real tokens or `flops`; `checkpoints` are shares of it
    at which the model is kept, e.g. 0.1.
    """

    tokens: int | None = None
    flops: float | None = None
    batch_tokens: int = 4096
    learning_rate: float = 1e-3
    warmup: float = 0.05
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    optimizer: Literal["adamw", "muon"] = "adamw"
    weight_decay: float = 0.01
    seed: int = 0
    bf16: bool = True
    checkpoints: tuple[float, ...] = ()
    save_every: int = 500


@dataclass
class Fitted:
    """What a training did: `tokens` seen (no padding), `steps`, and the loss of every step."""

    tokens: int
    steps: int
    losses: list[float] = field(default_factory=list)


def collate(examples: Examples, batch: np.ndarray, pad: int) -> dict[str, torch.Tensor]:
    """Prompts padded left, completions right, so that all completions start in one column and
    logits before it are never computed.
    """
    wide = max(len(examples.prompts[i]) for i in batch)
    deep = max(len(examples.completions[i]) for i in batch)
    ids = torch.full((len(batch), wide + deep), pad)
    mask = torch.zeros((len(batch), wide + deep), dtype=torch.long)
    labels = torch.full((len(batch), deep), -100)
    for row, i in enumerate(batch):
        prompt, completion = examples.prompts[i], examples.completions[i]
        ids[row, wide - len(prompt) : wide] = torch.from_numpy(prompt)
        ids[row, wide : wide + len(completion)] = torch.from_numpy(completion)
        mask[row, wide - len(prompt) : wide + len(completion)] = 1
        labels[row, : len(completion)] = torch.from_numpy(completion)
    weights = torch.from_numpy(examples.weights[batch])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels, "weights": weights}


def completion_loss(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Weighted mean negative log-likelihood of the completion tokens, in nats."""
    labels, mask = inputs["labels"], inputs["attention_mask"]
    # Counted from the first real token, as if there were no padding on the left.
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(
        input_ids=inputs["input_ids"],
        attention_mask=mask,
        position_ids=positions,
        logits_to_keep=labels.shape[1] + 1,
        use_cache=False,
    ).logits[:, :-1]
    nll = functional.cross_entropy(
        logits.float().flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="none"
    )
    weights = inputs["weights"].unsqueeze(1) * (labels != -100)
    return (nll.view_as(labels) * weights).sum() / weights.sum().clamp(min=1e-9)


class _Trainer(Trainer):
    """Our batches in our order, and the loss above."""

    plan: list[np.ndarray]
    examples: Examples
    pad: int

    def get_train_dataloader(self) -> DataLoader:
        """The plan's batches in their order; the trainer skips those before a checkpoint without
        collating them.
        """
        rows = range(len(self.examples))
        return DataLoader(
            rows,  # pyright: ignore[reportArgumentType]
            batch_sampler=[batch.tolist() for batch in self.plan],
            collate_fn=lambda batch: collate(self.examples, np.array(batch), self.pad),
        )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """See `completion_loss`."""
        loss = completion_loss(model, inputs)
        return (loss, {}) if return_outputs else loss


class _Keeper(TrainerCallback):
    """Keeps the log, the models on the way and the progress; calls a checkpoint complete once all
    of it is on disk.
    """

    def __init__(
        self,
        out: Path,
        kept: dict[int, float],
        save: Callable[[Path], None],
        progress: Callable[[int, int], None],
    ) -> None:
        self.out, self.kept, self.save, self.progress = out, kept, save, progress
        self.losses: list[float] = []

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.progress(state.global_step, state.max_steps)
        if state.global_step in self.kept:
            self.save(self.out / f"mark-{self.kept[state.global_step]:g}")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / "losses.json").write_text(json.dumps(self.losses))
        (folder / COMPLETE).touch()  # after all else: a folder without it is half-written


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices inside the blocks, AdamW for everything else (Jordan et al. 2024; Liu
    et al. 2025, arXiv 2502.16982, §2.2).

    One optimizer to the trainer, two inside. Learning rates are AdamW's: Muon's update is rescaled
    to AdamW's RMS.
    """

    def __init__(self, model: torch.nn.Module, *, lr: float, weight_decay: float) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        matrices = [p for name, p in named if p.ndim == 2 and ".layers." in name]
        rest = [p for name, p in named if p.ndim != 2 or ".layers." not in name]
        muon = torch.optim.Muon(
            matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )
        adam = torch.optim.AdamW(rest, lr=lr, weight_decay=0.0, betas=(0.9, 0.95), foreach=True)
        self.parts = (muon, adam)
        super().__init__([{"params": matrices}, {"params": rest}], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Copy the scheduled rate into both parts and step them."""
        for group, part in zip(self.param_groups, self.parts, strict=True):
            part.param_groups[0]["lr"] = group["lr"]
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Both parts' states and the outer groups'."""
        return {"parts": [part.state_dict() for part in self.parts], "outer": super().state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of `state_dict`."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        super().load_state_dict(state_dict["outer"])


def _last_checkpoint(work: Path) -> Path | None:
    folders = sorted(work.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    for folder in reversed(folders):
        if (folder / COMPLETE).exists():
            return folder
        shutil.rmtree(folder)
    return None


def _arguments(settings: TrainSettings, work: Path, steps: int) -> TrainingArguments:
    constant = settings.schedule == "constant"
    schedule = "constant_with_warmup" if constant else settings.schedule
    return TrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=schedule,
        warmup_steps=int(settings.warmup * steps),
        weight_decay=settings.weight_decay,
        adam_beta2=0.95,
        max_grad_norm=1.0,
        bf16=settings.bf16,
        seed=settings.seed,
        save_strategy="steps",
        save_steps=settings.save_every,
        save_total_limit=2,
        logging_steps=1,
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        use_cpu=not torch.cuda.is_available(),
    )


def _token_budget(settings: TrainSettings, model: PreTrainedModel, examples: Examples) -> int:
    if (settings.tokens is None) == (settings.flops is None):
        raise PomonaError("give a budget in tokens or in FLOPs, one of them")
    if settings.flops is None:
        return settings.tokens or 0
    return int(settings.flops / training_flops(shape_of(model), 1, examples.mean_context))


Order = Callable[[Examples, int, TrainSettings], list[np.ndarray]]


def shuffled(examples: Examples, tokens: int, settings: TrainSettings) -> list[np.ndarray]:
    """Passes over all examples, shuffled, until `tokens` are reached: the usual order."""
    return plan_batches(
        examples.lengths,
        batch_tokens=settings.batch_tokens,
        seed=settings.seed,
        tokens=tokens,
        repeats=examples.repeats,
    )


def _silent(done: int, total: int) -> None: ...


def fit(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    work: str | Path,
    settings: TrainSettings,
    *,
    order: Order = shuffled,
    progress: Callable[[int, int], None] = _silent,
) -> Fitted:
    """Train `model` in place. `work` holds the checkpoints of a training under way: call again
    after a kill and it continues.

    `order` gives the batches, as rows of `examples`, for a budget of tokens; it must depend on its
    arguments alone.
    """
    work = Path(work)
    plan = order(examples, _token_budget(settings, model, examples), settings)
    kept = {max(1, round(share * len(plan))): share for share in settings.checkpoints}
    keeper = _Keeper(work, kept, partial(save_checkpoint, model, tokenizer), progress)
    optimizer = None  # the Trainer's own AdamW
    if settings.optimizer == "muon":
        optimizer = MuonAdamW(model, lr=settings.learning_rate, weight_decay=settings.weight_decay)
    trainer = _Trainer(
        model=model,
        args=_arguments(settings, work, len(plan)),
        callbacks=[keeper],
        optimizers=(optimizer, None),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.plan, trainer.examples = plan, examples
    trainer.pad = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else 0
    last = _last_checkpoint(work)
    if last:
        keeper.losses = read_json(last / "losses.json", top=list, finite=False)
    with quiet():
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    total = examples.lengths.sum(1)
    return Fitted(int(sum(total[batch].sum() for batch in plan)), len(plan), keeper.losses)


def save_checkpoint(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: str | Path,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write weights in `dtype` with config and tokenizer, as `transformers` loads them; the model
    in memory is left as it is.
    """
    with atomic_directory(folder) as written, quiet():
        # By address, so that tied weights stay one tensor and are written once.
        tensors = model.state_dict()
        stored = {
            tensor.data_ptr(): tensor.detach().to(dtype) if tensor.is_floating_point() else tensor
            for tensor in tensors.values()
        }
        state = {name: stored[tensor.data_ptr()] for name, tensor in tensors.items()}
        model.save_pretrained(written, state_dict=state)
        tokenizer.save_pretrained(written)
        config = read_json(written / "config.json")
        config |= {"dtype": str(dtype).removeprefix("torch."), "use_cache": True}
        write_json(written / "config.json", config)


def kept_checkpoints(work: str | Path) -> Sequence[Path]:
    """The models kept on the way, in training order."""
    return sorted(Path(work).glob("mark-*"), key=lambda p: float(p.name.split("-")[1]))
