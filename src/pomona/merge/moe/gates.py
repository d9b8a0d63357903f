"""The gates of a mixture: a vector for each expert and layer, by which its router scores tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.merge.moe.configuration import RANDOM, ExpertSection, MoeConfiguration
from pomona.models.tensors import Stored, TensorRows

_DEGENERATE = 5.0  # mergekit's: gates with a larger condition number hardly tell experts apart


def gates_of(
    told: MoeConfiguration,
    gated: Sequence[ExpertSection],
    folder: Path,
    embedding: Stored,
    layers: int,
    *,
    seed: int,
    device: str | None,
) -> NDArray[np.float32]:
    """[layers, gated experts, width]: of the states of an expert's positive prompts in the base in
    `folder` those of the negative ones are taken, and the difference is brought to length 1.

    hidden: the states of the last token before each layer, averaged over prompts; hidden_avg: of
    all tokens; cheap_embed: the embeddings of all tokens, brought to length 1, for all layers;
    random: normal numbers; uniform_random: as a linear layer begins.
    """
    count, width = len(gated), embedding.shape[1]
    if told.gate_mode in RANDOM:
        draw = np.random.default_rng([seed, 0x6A7E])
        shape = (layers, count, width)
        if told.gate_mode == "random":
            return draw.standard_normal(shape, np.float32)
        return ((draw.random(shape, np.float32) * 2 - 1) / np.sqrt(np.float32(width))).astype("f4")
    states = _states(told, folder, embedding, layers, device)
    found = []
    for expert in gated:
        vector = states(expert.positive_prompts or [])
        if expert.negative_prompts:
            vector = vector - states(expert.negative_prompts)
        found.append(_unit(vector))
    gates = np.stack(found, axis=1).astype(np.float32)
    if not np.isfinite(gates).all():
        raise PomonaError(
            "the states of the prompts are not finite", where=folder, remedy="is the base damaged?"
        )
    return gates


def _states(
    told: MoeConfiguration, folder: Path, embedding: Stored, layers: int, device: str | None
) -> Any:
    from pomona.models.torch import LayerStates, prompt_ids

    if told.gate_mode == "cheap_embed":
        rows = TensorRows(embedding)

        def embedded(prompts: Sequence[str]) -> NDArray[np.float32]:
            ids = np.array([one for each in prompt_ids(folder, prompts) for one in each])
            if ids.max() >= embedding.shape[0]:
                message = f"token {ids.max()} has no row in its {embedding.shape[0]}"
                raise PomonaError(message, where=folder, remedy="is it the model's tokenizer?")
            vector = _unit(rows.float32(ids).sum(0, keepdims=True))
            return np.repeat(vector, layers, axis=0)

        return embedded
    network = LayerStates(folder, device)
    whole = told.gate_mode == "hidden_avg"
    return lambda prompts: network.mean(prompt_ids(folder, prompts), whole=whole)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-8)


def degenerate(gates: Sequence[NDArray[np.float32]]) -> Iterator[str]:
    """A note where the gates of a layer are nearly alike."""
    odd = [at for at, gate in enumerate(gates) if np.linalg.cond(gate) > _DEGENERATE]
    if odd:
        listed = ", ".join(map(str, odd[:8])) + (", …" if len(odd) > 8 else "")
        yield (
            f"the gates of {len(odd)} of {len(gates)} layers are nearly alike ({listed}): some "
            "experts will hardly be used; choose prompts that differ more"
        )
