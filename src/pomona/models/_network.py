"""Loading a checkpoint folder as a transformers network: where it runs, in which arithmetic, and
what it is made of.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging as transformers_logging

from pomona.errors import PomonaError, nearest
from pomona.models.protocol import Shape

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
MIXED = "mixed"


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
        reason = str(error).splitlines()[0]
        raise PomonaError(
            f'device "{name}" cannot be used: {reason}',
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
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PomonaError(
            f"cannot be loaded: {reason}",
            where=folder,
            remedy="is it a whole causal language model?",
        ) from error
    network: PreTrainedModel = loaded[0]
    refuse_missing(loaded[1], folder)
    return cast(
        "PreTrainedModel", cast("torch.nn.Module", network).to(device).eval().requires_grad_(False)
    )


def refuse_missing(report: dict[str, Any], where: Path) -> None:
    """Raise a PomonaError when the loading report of transformers names weights that it had to make
    up.
    """
    absent = [*sorted(report["missing_keys"]), *(str(key) for key in report["mismatched_keys"])]
    if absent:
        raise PomonaError(
            f"{len(absent)} weights are missing or have the wrong shape, the first is {absent[0]}",
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
