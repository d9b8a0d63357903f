"""Muon for a trainer that knows one optimizer."""

from __future__ import annotations

from typing import Any

import torch


class Muon32(torch.optim.Muon):
    """Muon in float32 all through, with `adjust_lr_fn="match_rms_adamw"`. torch makes matrices
    orthogonal in bfloat16, which takes 16 to 46 times as long where a processor has no such units.
    """

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """One step of every matrix that has a gradient."""
        for group in self.param_groups:
            rate = group["lr"]
            for matrix in group["params"]:
                if (gradient := matrix.grad) is None:
                    continue
                state = self.state[matrix]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(gradient)
                mean = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
                update = gradient.lerp(mean, group["momentum"]) if group["nesterov"] else mean
                steps, eps = group["ns_steps"], group["eps"]
                update = orthogonal(update, group["ns_coefficients"], steps, eps)
                matrix.mul_(1 - rate * group["weight_decay"])
                matrix.add_(update, alpha=-0.2 * rate * max(matrix.shape) ** 0.5)


def orthogonal(
    matrix: torch.Tensor, coefficients: tuple[float, float, float], steps: int, eps: float
) -> torch.Tensor:
    """Nearly the orthogonal part `[n, m]` of a matrix `[n, m]`, its singular values about 1: steps
    of the Newton–Schulz iteration of Jordan et al. (2024), in the matrix's own precision.
    """
    a, b, c = coefficients
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=eps)
    for _ in range(steps):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide.T if matrix.shape[0] > matrix.shape[1] else wide


class MuonAdamW(torch.optim.Optimizer):
    """Muon for the matrices inside the blocks, AdamW for everything else (Jordan et al. 2024; Liu
    et al. 2025, arXiv 2502.16982, §2.2).

    One optimizer to the trainer, two inside. Learning rates are AdamW's: Muon's update is rescaled
    to AdamW's RMS. Its matrices are made orthogonal in bfloat16, or in float32 unless `half`.
    """

    def __init__(
        self, model: torch.nn.Module, *, lr: float, weight_decay: float, half: bool = True
    ) -> None:
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        matrices = [p for name, p in named if p.ndim == 2 and ".layers." in name]
        rest = [p for name, p in named if p.ndim != 2 or ".layers." not in name]
        kind = torch.optim.Muon if half else Muon32
        muon = kind(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
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
