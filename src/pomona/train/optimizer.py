"""Muon for the matrices inside the blocks, AdamW for everything else (Jordan et al. 2024; Liu et
al. 2025, arXiv 2502.16982, §2.2).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class MuonAdamW(torch.optim.Optimizer):
    """One optimizer to the trainer, two inside. Learning rates are AdamW's: Muon's update is
    rescaled to AdamW's RMS.
    """

    def __init__(self, model: nn.Module, *, lr: float, weight_decay: float) -> None:
        inside = {
            id(p) for name, p in model.named_parameters() if p.ndim == 2 and ".layers." in name
        }
        matrices = [p for p in model.parameters() if id(p) in inside and p.requires_grad]
        rest = [p for p in model.parameters() if id(p) not in inside and p.requires_grad]
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
