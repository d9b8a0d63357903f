"""A checkpoint folder as a transformers network: loaded, or filled with weights from elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
)
from transformers.initialization import no_init_weights
from transformers.utils import logging as transformers_logging

from pomona.errors import PomonaError, nearest, quantity, reason_of
from pomona.models.checkpoint import tensor_places
from pomona.models.flops import Shape

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MIXED = "mixed"
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.([0-9]{1,6})\.")


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars and no advice from transformers; what matters is raised as an error
    instead.
    """
    level, bars = (
        transformers_logging.get_verbosity(),
        transformers_logging.is_progress_bar_enabled(),
    )
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def pick_device(name: str | None) -> torch.device:
    """The device called `name`, or a GPU when there is one."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise PomonaError(
            f'device "{name}" cannot be used: {reason_of(error)}',
            remedy="use cpu, or cuda on a machine with a GPU",
        ) from error
    return device


def pick_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The type of the weights: bfloat16 on a GPU and float32 elsewhere when no name is given;
    "mixed" keeps float32 weights.
    """
    if name is None:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name == MIXED:
        return torch.float32
    if name not in _DTYPES:
        raise PomonaError(f'unknown dtype "{name}"', remedy=nearest(name, [*_DTYPES, MIXED]))
    return _DTYPES[name]


def open_network(folder: Path, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """The network in evaluation mode without gradients. A PomonaError when a weight is missing,
    misshapen, or cannot be read.
    """
    try:
        with quiet():
            config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            _check_sizes(config.get_text_config(decoder=True), folder)
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except PomonaError:
        raise
    except Exception as error:  # transformers raises anything for a config.json that is odd
        raise PomonaError(
            f"cannot be loaded: {reason_of(error)}",
            where=folder,
            remedy="is it a whole causal language model?",
        ) from error
    network: PreTrainedModel = loaded[0]
    refuse_missing(loaded[1], folder)
    return cast(
        "PreTrainedModel", cast("torch.nn.Module", network).to(device).eval().requires_grad_(False)
    )


def _check_sizes(config: Any, folder: Path) -> None:
    """Raise PomonaError where config.json asks for a network far larger than the weights are: it
    would be built, and made up, before anybody notices.
    """
    places = tensor_places(folder)
    numbers = [int(found[1]) for name in places if (found := _LAYER.search(name))]
    layers = getattr(config, "num_hidden_layers", None)
    if numbers and type(layers) is int and layers > 4 * (max(numbers) + 1):
        raise PomonaError(
            f"config.json asks for {layers:,} layers, and the weights have {max(numbers) + 1}",
            where=folder,
            remedy="copy config.json and the weights of one model",
        )
    largest = max((place.elements for place in places.values()), default=0)
    hidden = getattr(config, "hidden_size", None)
    for name in ("vocab_size", "intermediate_size"):
        size = getattr(config, name, None)
        # Some models store factors of their matrices: only what is out of all proportion is told.
        if isinstance(size, int) and isinstance(hidden, int) and size * hidden > 64 * largest:
            raise PomonaError(
                f"config.json asks for matrices of {size:,} × {hidden:,}, and the largest of the "
                f"weights has {largest:,} numbers",
                where=folder,
                remedy="copy config.json and the weights of one model",
            )


def refuse_missing(report: dict[str, Any], where: Path) -> None:
    """Raise a PomonaError when the loading report of transformers names weights that it had to make
    up.
    """
    absent = [*sorted(report["missing_keys"]), *(str(key) for key in report["mismatched_keys"])]
    if absent:
        raise PomonaError(
            f"{quantity(len(absent), 'weight is missing or has', 'weights are missing or have')}"
            f" the wrong shape, the first is {absent[0]}",
            where=where,
            remedy=(
                "it must be a causal language model saved whole; config.json must fit the weights"
            ),
        )


def shape_of(network: PreTrainedModel) -> Shape:
    """The sizes of a loaded network; weights that are shared count once."""
    config: Any = network.config.get_text_config(decoder=True)
    table: Any = embedding_table(network)
    head: Any = network.get_output_embeddings()
    embedding = table.numel()
    output = 0 if head is None or head.weight is table else head.weight.numel()
    everything = sum(parameter.numel() for parameter in network.parameters())
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        attention=config.num_attention_heads * head_size(config),
        vocabulary=table.shape[0],
        body=everything - embedding - output,
        embedding=embedding,
        head=output,
    )


def embedding_table(network: PreTrainedModel) -> torch.Tensor:
    """The input embeddings `[vocabulary, hidden]`."""
    table: Any = network.get_input_embeddings()
    return table.weight


def head_size(config: Any) -> int:
    """Width of one attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


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
    except Exception as error:  # transformers raises anything for a config.json that is odd
        raise PomonaError(
            f"is no causal language model: {reason_of(error)}",
            where=folder,
            remedy="check its config.json",
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
    copied: set[int] = set()
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
        if owner not in copied:
            target.copy_(_tensor(array))
        if key == places.names[owner]:
            copied.add(owner)
        left.discard(owner)
    if left:
        names = sorted(places.names[owner] for owner in left)
        message = (
            f"{quantity(len(names), 'weight is', 'weights are')} missing, the first is {names[0]}"
        )
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


def current_names(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Of each name its name in the network that `config.json` of `folder` describes, by the
    renamings that transformers applies when it loads a checkpoint; names that no rule changes stay.

    `names` may also be those of an adapter that was trained on the model in another version of
    transformers. Nothing is loaded: the network has no weights. Empty where transformers has no
    such network.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    network = _outline(folder)
    if network is None:
        return {}
    known = dict(network.state_dict())
    renamings = [
        rule for rule in get_model_conversion_mapping(network) if isinstance(rule, WeightRenaming)
    ]
    prefix = network.base_model_prefix
    return {name: rename_source_key(name, renamings, [], prefix, known)[0] for name in names}


def _outline(folder: Path) -> Any:
    """The network of the class that config.json names, without weights; or None."""
    try:
        with quiet(), torch.device("meta"), no_init_weights():
            config: Any = AutoConfig.from_pretrained(folder, trust_remote_code=False)
            _check_sizes(config.get_text_config(decoder=True), folder)
            kind = getattr(transformers, str((config.architectures or [""])[0]), None)
            return kind(config) if kind else AutoModel.from_config(config, trust_remote_code=False)
    except Exception:  # transformers raises anything for a config.json that is odd
        return None
