"""Fine-tuning, thin over transformers' Trainer: token budgets, weights, checkpoints that survive a
kill.

`pomona.train.fit` needs the extra `torch`; batches and budgets do not.
"""

from pomona.train.batches import plan_batches
from pomona.train.examples import Examples, encode

__all__ = ["Examples", "encode", "plan_batches"]
