"""How tensors are merged: a kernel for every method, over blocks of stored numbers, in compiled loops from bf16 to bf16."""

from __future__ import annotations

from pomona._lazy import lazily

__getattr__, __dir__ = lazily(__name__, {"kernel_for": "kernels", "run": "kernels", "measure": "measuring"})
__all__ = ["kernel_for", "measure", "run"]  # pyright: ignore[reportUnsupportedDunderAll]
