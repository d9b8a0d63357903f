"""Train a causal language model on completions: transformers' Trainer with our batches, loss,
budget and whole checkpoints.
"""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
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
from pomona.errors import PomonaError, first_line
from pomona.files import atomic_directory, write_json
from pomona.models import quiet, shape_of, training_flops
from pomona.train.batches import Examples, plan_batches
from pomona.train.muon import MuonAdamW
from pomona.train.pruning import GradualPruning, Pruner
from pomona.workspace import is_full

COMPLETE = "complete"
DType = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class TrainSettings:
    """How to train. The budget is `tokens` real tokens or `flops`; `checkpoints` are shares of it
    at which the model is kept, e.g. 0.1. `dtype` is what matrix products are computed in, see
    `training_dtype`. `pruning` makes weights zero on the way.
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
    dtype: DType | None = None
    checkpoints: tuple[float, ...] = ()
    save_every: int = 500
    pruning: GradualPruning | None = None


@dataclass
class Fitted:
    """What a training did: `tokens` seen (no padding), `steps`, the loss of every step, and the
    `dtype` that matrix products were computed in.
    """

    tokens: int
    steps: int
    losses: list[float] = field(default_factory=list)
    dtype: DType = "float32"


def training_dtype(device: torch.device, wanted: DType | None = None) -> DType:
    """What matrix products of a training are computed in: `wanted`, or bfloat16 where the device
    has instructions for it, and float32 elsewhere.

    Processors without AVX512-BF16 or AMX imitate bfloat16, and train at half the speed of float32.
    """
    if wanted is not None:
        return wanted
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        asked = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        fast = device.type == "cpu" and any(
            getattr(torch.cpu, name, lambda: False)() for name in asked
        )
    return "bfloat16" if fast else "float32"


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
    half: bool

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
        # Not by the argument `bf16`: accelerate keeps what the first training of a process chose.
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.half):
            loss = completion_loss(model, inputs)
        return (loss, {}) if return_outputs else loss


class _Keeper(TrainerCallback):
    """Keeps the log, the models on the way and the progress; calls a checkpoint complete once all
    of it is on disk. `began` once the first step of this process has begun.
    """

    began = False

    def __init__(
        self,
        out: Path,
        kept: dict[int, float],
        save: Callable[[Path], None],
        progress: Callable[[int, int], None],
    ) -> None:
        self.out, self.kept, self.save, self.progress = out, kept, save, progress
        self.losses: list[float] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Something was done in this process."""
        self.began = True

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any
    ) -> None:
        """Keep the loss of a step."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Tell the progress; keep a model where one is asked for."""
        self.progress(state.global_step, state.max_steps)
        if state.global_step in self.kept:
            self.save(self.out / f"mark-{self.kept[state.global_step]:g}")

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Call a checkpoint complete."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / "losses.json").write_text(json.dumps(self.losses))
        (folder / COMPLETE).touch()  # after all else: a folder without it is half-written


def _last_checkpoint(work: Path) -> Path | None:
    folders = sorted(work.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    for folder in reversed(folders):
        if (folder / COMPLETE).exists():
            return folder
        shutil.rmtree(folder)
    return None


def _losses(checkpoint: Path) -> list[float]:
    """The loss of every step before a checkpoint. Raises PomonaError unless it is the one that its
    name says: the Trainer would begin again at the step that `trainer_state.json` names, or at
    none, on weights that have seen the rest.
    """
    remedy = _without(checkpoint)
    state, losses = checkpoint / "trainer_state.json", checkpoint / "losses.json"
    step = read_json(state, finite=False, remedy=remedy).get("global_step")
    if f"checkpoint-{step}" != checkpoint.name:
        message = f"`global_step` is {json.dumps(step)}, not that of {checkpoint.name}"
        raise PomonaError(message, where=state, remedy=remedy)
    found = read_json(losses, top=list, finite=False, remedy=remedy)
    if len(found) != step or not all(isinstance(loss, int | float) for loss in found):
        message = f"does not hold the losses of {step} steps"
        raise PomonaError(message, where=losses, remedy=remedy)
    return [float(loss) for loss in found]


def _without(checkpoint: Path) -> str:
    return f"delete {checkpoint} and run again: the training goes on from the one before, if any"


@contextmanager
def _resuming(keeper: _Keeper, checkpoint: Path | None) -> Iterator[None]:
    """What fails before the first step is the checkpoint that the training would go on from: it is
    read by torch and transformers, which have no one error for a damaged file.
    """
    try:
        yield
    except PomonaError:
        raise
    except Exception as error:
        if checkpoint is None or keeper.began or is_full(error):
            raise
        message = f"the training cannot go on from it: {first_line(error)}"
        raise PomonaError(message, where=checkpoint, remedy=_without(checkpoint)) from error


def _arguments(
    settings: TrainSettings, work: Path, steps: int, device: torch.device
) -> TrainingArguments:
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
        use_cpu=device.type == "cpu",
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


def cooldown(plain: np.ndarray, share: float = 0.1) -> Order:
    """The order of a training that ends without metadata: none of the `plain` rows until the last
    `share` of the tokens, and they alone from there on, under one schedule of the learning rate.

    `plain`, bool `[n]`, is of the rows that were encoded, which are usually there twice, with
    metadata in their prompts and without. Metadata Conditioning then Cooldown: Gao et al. 2025,
    arXiv 2501.01956, with a share of 10 %.

    Raises PomonaError for a share that is none, and, when it is used, where either kind is missing
    or `plain` does not fit the rows.
    """
    if not 0 < share < 1:
        raise PomonaError(f"a share of {share}", where="cooldown", remedy="give more than 0 to 1")

    def order(examples: Examples, tokens: int, settings: TrainSettings) -> list[np.ndarray]:
        if len(plain) <= examples.rows.max():
            message = f"{len(plain)} rows are told apart, and there are more"
            raise PomonaError(message, where="cooldown", remedy="say of every row whether it is")
        late, total = np.asarray(plain, bool)[examples.rows], examples.lengths.sum(1)
        plan: list[np.ndarray] = []
        for phase, kind in enumerate((~late, late)):
            rows = np.flatnonzero(kind)
            seen = int(sum(total[batch].sum() for batch in plan))
            part = plan_batches(
                examples.lengths[rows],
                batch_tokens=settings.batch_tokens,
                seed=settings.seed + phase,
                tokens=round(tokens * (1 - share)) if phase == 0 else tokens - seen,
                repeats=examples.repeats[rows],
            )
            plan += [rows[batch] for batch in part]
        return plan

    return order


def _silent(done: int, total: int) -> None: ...


@contextmanager
def _left_uncollected() -> Iterator[None]:
    """The Trainer collects garbage after each training, half a second where transformers is loaded:
    what was there before need not be looked through.
    """
    if gc.get_freeze_count():  # by somebody else, whose choice it stays
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


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
    work, device = Path(work), model.device
    settings = replace(settings, dtype=training_dtype(device, settings.dtype))
    plan = order(examples, _token_budget(settings, model, examples), settings)
    kept = {max(1, round(share * len(plan))): share for share in settings.checkpoints}
    keeper = _Keeper(work, kept, partial(save_checkpoint, model, tokenizer), progress)
    optimizer = None  # the Trainer's own AdamW
    if settings.optimizer == "muon":
        optimizer = MuonAdamW(
            model, lr=settings.learning_rate, weight_decay=settings.weight_decay,
            half=settings.dtype == "bfloat16",
        )  # fmt: skip
    trainer = _Trainer(
        model=model,
        args=_arguments(settings, work, len(plan), device),
        # Before the keeper, which saves what is pruned.
        callbacks=[*([Pruner(model, settings.pruning)] if settings.pruning else []), keeper],
        optimizers=(optimizer, None),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.plan, trainer.examples = plan, examples
    trainer.half = settings.dtype == "bfloat16"
    trainer.pad = tokenizer.pad_token_id if isinstance(tokenizer.pad_token_id, int) else 0
    last = _last_checkpoint(work)
    if last:
        keeper.losses = _losses(last)
    with quiet(), _left_uncollected(), _resuming(keeper, last):
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    total = examples.lengths.sum(1)
    tokens = int(sum(total[batch].sum() for batch in plan))
    return Fitted(tokens, len(plan), keeper.losses, settings.dtype or "float32")


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
