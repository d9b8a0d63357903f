"""The small part trained alone: each matrix is V·U with U computed and fixed (Denil et al. 2013,
§3.3), so that of `inputs` weights an output has only those of the known inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.forget.parameters.kernels import Kind, Matrix, chosen_inputs, dictionary, kernel_of


class PredictedLinear(torch.nn.Module):
    """A linear layer with the weights V·U: `part` is V `[outputs, known]`, trained; `dictionary` U
    `[known, inputs]`, fixed.
    """

    dictionary: torch.Tensor

    def __init__(self, part: torch.Tensor, fixed: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.part = torch.nn.Parameter(part)
        self.register_buffer("dictionary", fixed)
        self.bias = None if bias is None else torch.nn.Parameter(bias, requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x·Uᵀ·Vᵀ + b."""
        return torch.nn.functional.linear(x @ self.dictionary.T, self.part, self.bias)


def with_dictionaries(
    network: Any,
    fraction: float,
    *,
    kind: Kind = "covariance",
    moments: Mapping[str, Matrix] | None = None,
    ridge: float = 1e-3,
    seed: int = 0,
) -> int:
    """Put V·U in the place of every linear layer inside the blocks of a transformers network, and
    freeze all else; returns the number of weights that are trained.

    V begins where V·U is nearest to the weights. The output head stays as it is, as in the paper.
    Raises PomonaError for a kind without a dictionary, and a network without such layers.
    """
    if kind == "svd":
        remedy = "use covariance, squared_exponential or random"
        raise PomonaError("svd has no dictionary of its own", where="kind", remedy=remedy)
    for weight in network.parameters():
        weight.requires_grad_(False)
    trained = 0
    for name, layer in _layers(network).items():
        weights = layer.weight.detach().double().numpy()
        key, inputs = f"{name}.weight", weights.shape[1]
        known = chosen_inputs(key, inputs, max(1, round(fraction * inputs)), seed)
        kernel = kernel_of(kind, weights, known, (moments or {}).get(key), ridge)
        fixed = dictionary(kernel, known, ridge)
        part = np.linalg.lstsq(fixed.T, weights.T, rcond=None)[0].T
        bias = None if layer.bias is None else layer.bias.detach()
        made = PredictedLinear(_float(part), _float(fixed), bias)
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, made)
        trained += made.part.numel()
    return trained


@torch.no_grad()
def without_dictionaries(network: Any) -> None:
    """Ordinary linear layers again, with the weights V·U: the network is saved as any other."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, PredictedLinear):
            weights = layer.part @ layer.dictionary
            plain = torch.nn.Linear(weights.shape[1], weights.shape[0], layer.bias is not None)
            plain.weight.copy_(weights)
            if layer.bias is not None:
                plain.bias.copy_(layer.bias)
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, plain)


def _layers(network: Any) -> dict[str, torch.nn.Linear]:
    found = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, torch.nn.Linear) and ".layers." in f".{name}"
    }
    if not found:
        remedy = "dictionaries know models with linear layers in `.layers.`"
        raise PomonaError("has no linear layer inside a block", where="network", remedy=remedy)
    return found


def _float(values: NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.float32))
