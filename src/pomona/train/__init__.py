"""Fine-tuning, thin over transformers' Trainer: token budgets, weights, checkpoints that survive a
kill.

`fit` and what belongs to it need the extra `torch`; batches and budgets do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.train.batches import (
        Examples as Examples,
        encode as encode,
        fill_batches as fill_batches,
        plan_batches as plan_batches,
        temperature_repeats as temperature_repeats,
    )
    from pomona.train.pruning import GradualPruning as GradualPruning
    from pomona.train.trainer import (
        Fitted as Fitted,
        Order as Order,
        TrainSettings as TrainSettings,
        collate as collate,
        completion_loss as completion_loss,
        cooldown as cooldown,
        fit as fit,
        kept_checkpoints as kept_checkpoints,
        save_checkpoint as save_checkpoint,
        shuffled as shuffled,
        training_dtype as training_dtype,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "batches": "Examples encode fill_batches plan_batches temperature_repeats",
        "pruning": "GradualPruning",
        "trainer": "Fitted Order TrainSettings collate completion_loss cooldown fit "
        "kept_checkpoints save_checkpoint shuffled training_dtype",
    },
)
