"""LoRA adapters as PEFT saves them, laid on their model: W + s·B·A (Hu et al. 2021, arXiv
2106.09685).

DoRA: Liu et al. 2024, arXiv 2402.09353.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.models import read_config
from pomona.models.tensors import (
    NewTensor,
    Stored,
    TensorRows,
    View,
    encode_finite,
    is_embedding,
    row_blocks,
    stored_array,
    to_float32,
)

_FILE = "adapter_model.safetensors"
_ROOT = "base_model.model."
_PARTS = re.compile(
    r"(?P<module>.+?)\.(?P<part>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector|base_layer"
    r"|token_adapter\.trainable_tokens_delta)(?:\.(?P<kind>weight|bias))?$"
)
_REFUSED = (
    *(
        "target_parameters",
        "layer_replication",
        "alora_invocation_tokens",
        "arrow_config",
        "use_qalora",
        "use_bdlora",
    ),
    *("kasa_config", "monteclora_config", "velora_config"),
)
_NAME = re.compile(r"[\w.-]+")
_LARGEST_ALPHA = 1e30  # what float32 still holds when it is multiplied by a weight
_ALPHA = 8  # PEFT's, where an adapter says nothing
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclass(frozen=True)
class Adapter:
    """A PEFT folder: its configuration and, per module, its tensors by part (lora_A, lora_B, …; ""
    for whole weights and biases).
    """

    folder: Path
    config: Mapping[str, Any]
    parts: Mapping[str, Mapping[str, Stored]]
    whole: Mapping[str, Stored]

    def scale(self, module: str, rank: int) -> float:
        """s = α/r, or α/√r for rank-stabilised LoRA (Kalajdzievski 2023, arXiv 2312.03732)."""
        wanted = self._said("rank_pattern", module, self.config.get("r", rank))
        if wanted != rank:
            raise self.wrong(
                f'"{module}" has rank {rank}, and adapter_config.json says {wanted}',
                remedy="copy the adapter again, with its own adapter_config.json",
            )
        alpha = self._said("alpha_pattern", module, self.config.get("lora_alpha", _ALPHA))
        return alpha / rank**0.5 if self.config.get("use_rslora") else alpha / rank

    def _said(self, key: str, module: str, usual: Any) -> Any:
        """What PEFT takes for a module: the value of the first pattern that fits its name."""
        for pattern, value in (self.config.get(key) or {}).items():
            if module == pattern or module.endswith("." + pattern):
                return value
            # Only what is no plain name is searched for as a pattern.
            if not _NAME.fullmatch(pattern) and re.match(rf"(?:.*\.)?(?:{pattern})$", module):
                return value
        return usual

    def wrong(self, message: str, remedy: str) -> PomonaError:
        """An error in its tensors."""
        return PomonaError(message, where=self.folder / _FILE, remedy=remedy)


def read_adapter(folder: Path) -> Adapter:
    """Open a PEFT LoRA folder. Raises PomonaError for other kinds of adapters, for pickles, and for
    tensors it does not understand.
    """
    file = folder / "adapter_config.json"
    if not file.is_file():
        raise PomonaError(
            "holds no adapter_config.json",
            where=folder,
            remedy="name a folder that PEFT's save_pretrained wrote",
        )
    if not (folder / _FILE).is_file():
        raise PomonaError(
            f"holds no {_FILE}; pickles are not loaded",
            where=folder,
            remedy="save it again with safe_serialization=True",
        )
    config = read_config(folder, file.name)
    if config.get("peft_type") != "LORA":
        raise PomonaError(
            f"is an adapter of type {config.get('peft_type')}",
            where=file,
            remedy="only LORA is supported",
        )
    for key in _REFUSED:
        if config.get(key):
            raise PomonaError(
                f'uses "{key}", which is not supported',
                where=file,
                remedy="merge it with PEFT and name the merged folder",
            )
    if config.get("init_lora_weights") not in _PLAIN_STARTS:
        raise PomonaError(
            f"was started by {config['init_lora_weights']}, which changes the base's weights too",
            where=file,
            remedy="save it with path_initial_model_for_weight_conversion, or merge it with PEFT",
        )
    _check_settings(config, file)
    return _sorted_parts(folder, config)


def _check_settings(config: Mapping[str, Any], file: Path) -> None:
    """Raise PomonaError for settings that have no meaning, and patterns that could be searched for
    without end.
    """
    alphas = [config.get("lora_alpha") or 0, *(config.get("alpha_pattern") or {}).values()]
    if any(abs(alpha) > _LARGEST_ALPHA for alpha in alphas):
        message = f"an alpha is {max(alphas, key=abs):.3g}, which is no scale"
        raise PomonaError(message, where=file, remedy="copy the adapter again")
    for key in ("lora_alpha", "r"):
        if key in config and config[key] is None:
            raise PomonaError(f'"{key}" is null', where=file, remedy="give the number it had")
    if config.get("r") == 0:
        raise PomonaError('"r" is 0, so the adapter has no matrices', where=file)
    for key in ("rank_pattern", "alpha_pattern"):
        patterns = [each for each in config.get(key) or {} if not _NAME.fullmatch(each)]
        for pattern in patterns:
            try:
                re.compile(pattern)
                endless = len(re.findall(r"[*+{]", pattern)) > 3 or re.search(
                    r"\)\s*[*+{]|\(\?[P(]", pattern
                )
            except (re.error, RecursionError, OverflowError):
                endless = True
            if endless or len(pattern) > 500 or len(patterns) > 1000:
                message = f'"{key}" has {pattern[:60]!r}, which is no pattern for names'
                raise PomonaError(message, where=file, remedy="write the names of the modules out")
    listed = config.get("trainable_token_indices") or []
    for indices in listed.values() if isinstance(listed, dict) else [listed]:
        if not isinstance(indices, list) or not all(type(i) is int and i >= 0 for i in indices):
            message = f'"trainable_token_indices" is {str(listed)[:60]}, and must be ids of tokens'
            raise PomonaError(message, where=file, remedy="copy the adapter again")


def _sorted_parts(folder: Path, config: Mapping[str, Any]) -> Adapter:
    parts: dict[str, dict[str, Stored]] = {}
    whole: dict[str, Stored] = {}
    for name, stored in View.of(folder).tensors.items():
        short = name.removeprefix(_ROOT).replace(".modules_to_save.", ".").replace(".default.", ".")
        match = _PARTS.match(short)
        if match:
            part = match["part"] + (".bias" if match["kind"] == "bias" else "")
            parts.setdefault(match["module"], {})[part] = stored
        elif "lora_" in short or not short.endswith((".weight", ".bias")):
            raise PomonaError(
                f'holds a tensor "{name}" of unknown meaning',
                where=folder / _FILE,
                remedy="merge it with PEFT",
            )
        else:
            whole[short] = stored
    return Adapter(folder, config, parts, whole)


def adapted(
    view: View, adapter: Adapter, *, tied: bool = False
) -> tuple[dict[str, NewTensor], dict[str, Stored], tuple[str, ...]]:
    """What an adapter changes: tensors to be made, tensors read from the adapter as they are, and
    notes.

    view: the model under the adapter. tied: whether its output embedding is its input embedding.
    Weights are computed in float32 and rounded once to the type they have in the model.
    Raises PomonaError naming the module for tensors the model lacks and for other shapes.
    """
    made: dict[str, NewTensor] = {}
    taken: dict[str, Stored] = {}
    notes: list[str] = []
    alpha = adapter.config.get("lora_alpha")
    if alpha is None:
        notes.append(f"{adapter.folder} gives no lora_alpha: {_ALPHA}, as in PEFT")
    elif alpha == 0 and not adapter.config.get("alpha_pattern"):
        notes.append(f"{adapter.folder} has a lora_alpha of 0: its matrices change nothing")
    for short, stored in adapter.whole.items():
        name = find_tensor(view, short)
        if name is None and tied and short.startswith("lm_head."):
            notes.append(_tied_head(adapter, stored))
            continue
        _whole(view, adapter, name, short, stored, made, taken)
    for module, parts in adapter.parts.items():
        for name, tensor in _module(view, adapter, module, parts):
            made[name] = tensor
    return made, taken, tuple(notes)


def find_tensor(view: View, short: str) -> str | None:
    """The model's tensor of a name in the adapter; prefixes such as "transformer." may be missing
    on either side.
    """
    if short in view.tensors:
        return short
    names = [
        name for name in view.tensors if name.endswith("." + short) or short.endswith("." + name)
    ]
    return names[0] if len(names) == 1 else None


def _needed(view: View, adapter: Adapter, short: str) -> str:
    name = find_tensor(view, short)
    if name is None:
        raise adapter.wrong(
            f'changes "{short}", which {view.folder} does not have',
            remedy="name the model this adapter was trained on",
        )
    return name


def _misfit(
    adapter: Adapter, short: str, made_for: tuple[int, ...], wanted: tuple[int, ...]
) -> PomonaError:
    return adapter.wrong(
        f'"{short}" is made for shape {list(made_for)}, the model has {list(wanted)}',
        remedy="name the model this adapter was trained on, with its vocabulary",
    )


def _tied_head(adapter: Adapter, head: Stored) -> str:
    embedding = [stored for name, stored in adapter.whole.items() if is_embedding(name)]
    if (
        embedding
        and embedding[0].shape == head.shape
        and np.array_equal(stored_array(embedding[0]), stored_array(head))
    ):
        return f"{adapter.folder}: lm_head is the input embedding, as in the model"
    raise adapter.wrong(
        "has an lm_head of its own, but the model's is its input embedding",
        remedy="save the model untied, with its lm_head.weight",
    )


def _whole(
    view: View,
    adapter: Adapter,
    name: str | None,
    short: str,
    stored: Stored,
    made: dict[str, NewTensor],
    taken: dict[str, Stored],
) -> None:
    name = name or _needed(view, adapter, short)
    dtype, shape = view.info(name)
    if stored.shape != shape:
        raise _misfit(adapter, short, stored.shape, shape)
    if stored.dtype == dtype:
        taken[name] = stored
    else:
        made[name] = NewTensor(dtype, shape, lambda: _converted(stored, dtype))


def _converted(stored: Stored, dtype: str) -> Iterator[bytes]:
    values = TensorRows(stored)
    for rows in row_blocks(*values.shape):
        yield encode_finite(values.float32(rows), dtype, stored.name, stored.folder)


def _module(
    view: View, adapter: Adapter, module: str, parts: Mapping[str, Stored]
) -> Iterator[tuple[str, NewTensor]]:
    if "base_layer.bias" in parts or "lora_B.bias" in parts:
        yield _bias(view, adapter, module, parts)
    if set(parts) <= {"base_layer.bias"}:
        return
    name = _needed(view, adapter, f"{module}.weight")
    dtype, shape = view.info(name)
    start = parts.get("base_layer", view.tensors[name])
    if start.shape != shape:
        raise _misfit(adapter, module, start.shape, shape)
    if "token_adapter.trainable_tokens_delta" in parts:
        rows = parts["token_adapter.trainable_tokens_delta"]
        yield name, _with_rows(adapter, module, start, dtype, rows)
        return
    update = _update(adapter, module, parts, shape)
    yield name, NewTensor(dtype, shape, lambda: update.blocks(start, dtype))


def _bias(
    view: View, adapter: Adapter, module: str, parts: Mapping[str, Stored]
) -> tuple[str, NewTensor]:
    name = _needed(view, adapter, f"{module}.bias")
    dtype, shape = view.info(name)
    start = parts.get("base_layer.bias", view.tensors[name])
    added = parts.get("lora_B.bias")
    for stored in (start, added):
        if stored is not None and stored.shape != shape:
            raise _misfit(adapter, name, stored.shape, shape)

    def blocks() -> Iterator[bytes]:
        values = to_float32(stored_array(start), start.dtype)
        if added is not None:
            rank = parts["lora_A"].shape[0]
            values += to_float32(stored_array(added), added.dtype) * np.float32(
                adapter.scale(module, rank)
            )
        yield encode_finite(values, dtype, name, adapter.folder)

    return name, NewTensor(dtype, shape, blocks)


def _with_rows(adapter: Adapter, module: str, start: Stored, dtype: str, new: Stored) -> NewTensor:
    listed = adapter.config.get("trainable_token_indices") or []
    if isinstance(listed, Mapping):
        listed = next(
            (rows for key, rows in listed.items() if module == key or module.endswith("." + key)),
            [],
        )
    if (
        len(listed) != new.shape[0]
        or new.shape[1:] != start.shape[1:]
        or (listed and max(listed) >= start.shape[0])
    ):
        raise _misfit(adapter, module, new.shape, start.shape)

    def blocks() -> Iterator[bytes]:
        old, rows = TensorRows(start), TensorRows(new).float32()
        for block in row_blocks(*old.shape):
            values = old.float32(block)
            for row, index in zip(rows, listed, strict=True):
                if block.start <= index < block.stop:
                    values[index - block.start] = row
            yield encode_finite(values, dtype, module, adapter.folder)

    return NewTensor(dtype, start.shape, blocks)


@dataclass(frozen=True)
class _Update:
    """W + scale·left·right; with `magnitude`, rows (axis 1) or columns (axis 0) are then brought to
    these lengths (DoRA).
    """

    left: NDArray[np.float32]
    right: NDArray[np.float32]
    scale: np.float32
    magnitude: NDArray[np.float32] | None
    axis: int
    where: str

    def block(self, start: TensorRows, rows: slice) -> NDArray[np.float32]:
        """Some rows with the adapter's part added."""
        # What is too large becomes infinite without a word, and is refused where it is rounded.
        with np.errstate(over="ignore", invalid="ignore"):
            values: NDArray[np.float32] = self.left[rows] @ self.right
            values *= self.scale
            values += start.float32(rows)
        return values

    def blocks(self, stored: Stored, dtype: str) -> Iterator[bytes]:
        """The whole tensor, in blocks of rows."""
        start = TensorRows(stored)
        columns = np.zeros(start.shape[1])
        if self.magnitude is not None and self.axis == 0:
            for rows in row_blocks(*start.shape):
                columns += np.square(self.block(start, rows), dtype=np.float64).sum(0)
        for rows in row_blocks(*start.shape):
            values = self.block(start, rows)
            if self.magnitude is not None and self.axis == 0:
                values *= self.magnitude / np.sqrt(columns).astype(np.float32)
            elif self.magnitude is not None:
                norms = np.sqrt(np.square(values, dtype=np.float64).sum(1)).astype(np.float32)
                values *= (self.magnitude[rows] / norms)[:, None]
            yield encode_finite(values, dtype, stored.name, self.where)


def _update(
    adapter: Adapter, module: str, parts: Mapping[str, Stored], shape: tuple[int, ...]
) -> _Update:
    embedding = "lora_embedding_A" in parts
    names = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A", "lora_B")
    if not set(names) <= set(parts):
        raise adapter.wrong(
            f'"{module}" has no {" and ".join(names)}', remedy="save the adapter again"
        )
    first, second = (parts[name] for name in names)
    if len(shape) != 2 or len(first.shape) != 2 or len(second.shape) != 2:
        raise adapter.wrong(
            f'"{module}" is no matrix but {list(shape)}', remedy="merge it with PEFT"
        )
    made_for = (second.shape[0], first.shape[1])  # outputs, inputs
    flipped = embedding or (
        made_for[::-1] == shape
        and (made_for != shape or bool(adapter.config.get("fan_in_fan_out")))
    )
    if first.shape[0] != second.shape[1] or (made_for[::-1] if flipped else made_for) != shape:
        raise _misfit(adapter, module, made_for[::-1] if flipped else made_for, shape)
    a, b = (to_float32(stored_array(stored), stored.dtype) for stored in (first, second))
    magnitude = parts.get("lora_magnitude_vector")
    return _Update(
        np.ascontiguousarray(a.T) if flipped else b,
        np.ascontiguousarray(b.T) if flipped else a,
        np.float32(adapter.scale(module, first.shape[0])),
        None
        if magnitude is None
        else to_float32(stored_array(magnitude), magnitude.dtype).reshape(-1),
        0 if flipped else 1,
        str(adapter.folder),
    )
