"""Other weights in a loaded network: one network serves any number of checkpoints of its shape."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from pomona.errors import PomonaError, nearest
from pomona.models._network import quiet

_DERIVED = [r"rotary_emb\.inv_freq"]  # stored by old checkpoints, computed by the network


def blank_network(folder: Path, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """The network that the `config.json` of `folder` describes, its weights not set. A PomonaError
    when there is no such network.
    """
    try:
        with quiet():
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            with no_init_weights():
                network: Any = AutoModelForCausalLM.from_config(
                    config, dtype=dtype, trust_remote_code=False
                )
            network.tie_weights()
            if (folder / "generation_config.json").is_file():
                network.generation_config = GenerationConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PomonaError(
            f"is no causal language model: {reason}", where=folder, remedy="check its config.json"
        ) from error
    return cast("PreTrainedModel", network.to(device).eval().requires_grad_(False))


@torch.no_grad()
def replace_weights(network: PreTrainedModel, tensors: Iterable[tuple[str, NDArray[Any]]]) -> None:
    """Set every weight of `network` from (name, array) pairs, named as in its checkpoints; uint16
    arrays are bfloat16.

    Names may lack or have the prefix of the base model, as checkpoints do. Of tied weights one is
    enough; where both are given, the embedding is the one that counts, as in transformers. Raises
    PomonaError for names that are unknown or missing and for other shapes; the weights are then
    partly replaced and not to be used.
    """
    places = _Places(network)
    left = set(places.owners.values())
    settled: set[int] = set()
    for name, array in tensors:
        place = places.find(name)
        if place is None:
            continue
        key, target = place
        if tuple(array.shape) != tuple(target.shape):
            message = (
                f'"{name}" has the shape {list(array.shape)}, and the model takes '
                f"{list(target.shape)}"
            )
            raise PomonaError(
                message,
                remedy="replace it with a checkpoint of the same architecture and vocabulary",
            )
        owner = places.owners[key]
        if owner not in settled:
            target.copy_(_tensor(array))
        if key == places.names[owner]:
            settled.add(owner)
        left.discard(owner)
    if left:
        names = sorted(places.names[owner] for owner in left)
        message = f"{len(names)} weights are missing, the first is {names[0]}"
        raise PomonaError(message, remedy="replace all the weights of the model")


def _tensor(array: NDArray[Any]) -> torch.Tensor:
    contiguous = np.require(array, requirements=["C", "W"])
    tensor = torch.from_numpy(contiguous)
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor


class _Places:
    """Where each name of a checkpoint goes.

    `owners` has one number for all names of one tied weight, and `names` the one of them that
    counts: the first, the embedding.
    """

    def __init__(self, network: PreTrainedModel) -> None:
        self._targets: dict[str, torch.Tensor] = dict(network.state_dict(keep_vars=True))
        self.owners = {name: id(target) for name, target in self._targets.items()}
        self.names: dict[int, str] = {}
        for name, owner in self.owners.items():
            self.names.setdefault(owner, name)
        self._prefix = f"{network.base_model_prefix}."
        patterns = [*_DERIVED, *(network._keys_to_ignore_on_load_unexpected or [])]
        self._ignored = re.compile("|".join(patterns))

    def find(self, name: str) -> tuple[str, torch.Tensor] | None:
        """The network's own name and tensor; None for what a network computes by itself. Raises
        PomonaError for an unknown name.
        """
        for own in (name, self._prefix + name, name.removeprefix(self._prefix)):
            if own in self._targets:
                return own, self._targets[own]
        if self._ignored.search(name):
            return None
        raise PomonaError(f'the model has no weight "{name}"', remedy=nearest(name, self._targets))
