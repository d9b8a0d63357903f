"""How tensors are merged: a kernel for every method, over blocks of stored numbers, in compiled
loops from bf16 to bf16.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.merge.methods.kernels import kernel_for as kernel_for, run as run

__getattr__, __dir__ = lazily(__name__, {"kernels": "kernel_for run"})
