"""A LoRA adapter out of a fine-tuned model: the nearest matrices of low rank to what fine-tuning
changed (Eckart and Young 1936).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.merge.planning.checking import same_bytes
from pomona.merge.planning.models import locate_model
from pomona.merge.preparing.keymap import ties_in
from pomona.merge.preparing.low_rank import truncated
from pomona.models import read_config
from pomona.models.tensors import (
    FLOATS,
    NUMBERS,
    NewTensor,
    Stored,
    TensorRows,
    View,
    check_free,
    dequantised,
    encode_finite,
    is_embedding,
    is_flipped,
    is_head,
    is_table,
    packed_names,
    row_blocks,
    to_float32,
    write_made,
)
from pomona.places import check_outputs
from pomona.workspace import refuse_changed, stamp

KIND = "an adapter"


@dataclass(frozen=True)
class AdapterModule:
    """One matrix: the rank kept, and ‖τ − BA‖ / ‖τ‖ in the Frobenius norm, before A and B are
    rounded to their type.
    """

    name: str
    rank: int
    error: float


@dataclass(frozen=True)
class Extraction:
    """What `extract_adapter` kept. whole: modules saved as they are; unchanged: tensors that do not
    differ.

    left: tensors that differ and are not in the adapter, because `modules` leaves them out or PEFT
        has no place for them.
    """

    modules: tuple[AdapterModule, ...]
    whole: tuple[str, ...]
    unchanged: int
    left: tuple[str, ...]
    size: int  # bytes of the adapter's tensors
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> float:
        """The largest relative error of a module; 0 without modules."""
        return max((module.error for module in self.modules), default=0.0)


class _MadeRows:
    """A dequantised weight as rows, all of it in memory."""

    def __init__(self, made: NewTensor) -> None:
        values = np.frombuffer(b"".join(made.blocks()), NUMBERS[made.dtype])
        self.shape = (made.shape[0], prod(made.shape[1:]))
        self._values = to_float32(values, made.dtype).reshape(self.shape)

    def float32(self, rows: slice = slice(None)) -> NDArray[np.float32]:
        """Some of them."""
        return self._values[rows]


@dataclass(frozen=True)
class _Numbers:
    """A model's tensors, quantised weights as numbers."""

    folder: Path
    tensors: Mapping[str, Stored | NewTensor]
    note: str | None = None

    @classmethod
    def of(cls, folder: Path) -> _Numbers:
        """A checkpoint folder. Raises PomonaError for weights that are not read."""
        view, config = View.of(folder), read_config(folder)
        if not packed_names(view.tensors, config):
            return cls(folder, view.tensors)
        found = dequantised(view, config, folder.name)
        left = {name: one for name, one in view.tensors.items() if name not in found.gone}
        return cls(folder, {**left, **found.made}, found.note(folder.name))

    def rows(self, name: str) -> TensorRows | _MadeRows:
        """A tensor of floats as rows."""
        one = self.tensors[name]
        return TensorRows(one) if isinstance(one, Stored) else _MadeRows(one)


@dataclass
class _Parts:
    """The adapter as it grows, from two models and what is asked of it."""

    new: _Numbers
    old: _Numbers
    flipped: bool
    choose: Callable[[NDArray[np.float64]], int]
    asked: Sequence[str]
    keep_whole: bool
    dtype: str
    made: dict[str, NewTensor] = field(default_factory=dict)
    modules: list[AdapterModule] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    biases: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unchanged: int = 0

    def add(self, name: str) -> None:
        """Put one tensor's change where it belongs."""
        stored = self.new.tensors[name]
        module, _, kind = name.rpartition(".")
        weight = self.new.tensors.get(f"{module}.weight")
        if not _differ(name, self.new, self.old):
            self.unchanged += 1
        elif not any(fnmatchcase(module, pattern) for pattern in self.asked) or kind not in (
            "weight",
            "bias",
        ):
            self.left.append(name)
        elif kind == "weight" and len(stored.shape) == 2 and not is_table(name):
            change = self.new.rows(name).float32() - self.old.rows(name).float32()
            a, b, error = truncated(change.T if self.flipped else change, self.choose)
            self.modules.append(AdapterModule(module, len(a), error))
            for part, values in (("lora_A", a), ("lora_B", b)):
                key = f"base_model.model.{module}.{part}.weight"
                self.made[key] = in_memory(values, self.dtype, key, self.new.folder)
        elif kind == "bias" and weight is not None and len(weight.shape) == 2:
            # Named at the end: it depends on whether the weight has an adapter.
            self.biases.append(name)
            self.made[name] = as_stored(stored)
        elif self.keep_whole:
            self.whole.append(module)
            self.made[f"base_model.model.{name}"] = as_stored(stored)
        else:
            self.left.append(name)


def extract_adapter(
    finetuned: str | Path,
    base: str | Path,
    out: str | Path,
    *,
    rank: int | None = None,
    energy: float | None = None,
    modules: Sequence[str] = ("*",),
    whole: bool = True,
    dtype: Literal["F32", "BF16", "F16"] = "F32",
    overwrite: bool = False,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """Write what fine-tuning changed as a LoRA adapter.

    PEFT loads it: of the change of every matrix it has the nearest one of low rank. Of rank and
    energy, give one or both: with both, rank is the largest, and energy (0 < energy ≤ 1) a part of
    ‖τ‖². Of the two matrices A and B, of type `dtype`, B·A is the truncated singular value
    decomposition of τ, the singular values shared evenly (B = U√S, A = √S Vᵀ). Of quantised models
    it is the change of what their weights stand for. Raises PomonaError for models whose tensors
    differ in name or shape, and when nothing differs.

    Args:
        finetuned: The fine-tuned model: a folder, a name of `pomona models`, or a Hugging Face id.
        base: The model it was fine-tuned from.
        out: Folder of the adapter.
        rank: Rank of every module; give this or energy.
        energy: Share of the squared change that every module keeps, such as 0.95.
        modules: Modules to take, by name or glob; all linear ones when left out.
        whole: Save embeddings, heads, norms and other changed tensors that are no matrices of
            linear layers as they are (modules_to_save).
        dtype: Type of the adapter's matrices.
        overwrite: Replace an adapter that is there and that Pomona wrote.
        dry_run: Compute ranks and errors, and write nothing.
    """
    wrong = {
        "neither rank nor energy is given": rank is None and energy is None,
        f"rank is {rank}": rank is not None and rank < 1,
        f"energy is {energy}": energy is not None and not 0 < energy <= 1,
    }
    for message in (message for message, found in wrong.items() if found):
        remedy = "give a rank of at least 1, or an energy above 0 and at most 1"
        raise PomonaError(message, where="extract", remedy=remedy)
    finetuned, base, out = locate_model(str(finetuned)), locate_model(str(base)), Path(out)
    check_outputs({"the adapter": out}, [finetuned, base], folders=["the adapter"])
    check_free(out, KIND, overwrite)
    before = stamp([finetuned, base])
    new, old = _Numbers.of(finetuned), _Numbers.of(base)
    _check_pair(new, old)
    config = read_config(base)
    flipped = is_flipped(config)
    choose = partial(_rank, rank=rank, energy=energy)
    parts = _Parts(new, old, flipped, choose, modules, whole, dtype)
    for done, name in enumerate(sorted(new.tensors)):
        parts.add(name)
        if progress:
            progress(done + 1, len(new.tensors))
    if not parts.made:
        raise PomonaError(
            f"does not differ from {base} in these modules",
            where=finetuned,
            remedy="check the two folders and `modules`",
        )
    _complete(parts, ties_in(base))
    if not dry_run:
        refuse_changed(before, stamp([finetuned, base]), out)
        settings = json.dumps(_settings(parts, config, base), indent=1).encode()
        files = {"adapter_config.json": settings}
        write_made(out, parts.made, files, name="adapter_model.safetensors", kind=KIND)
    size = sum(tensor.size for tensor in parts.made.values())
    return Extraction(
        tuple(parts.modules),
        tuple(parts.whole),
        parts.unchanged,
        tuple(parts.left),
        size,
        tuple(model.note for model in (new, old) if model.note),
    )


def _check_pair(new: _Numbers, old: _Numbers) -> None:
    for name in sorted(set(new.tensors) ^ set(old.tensors)):
        holder, lacking = (new, old) if name in new.tensors else (old, new)
        message = f'has no tensor "{name}", which {holder.folder} has'
        raise PomonaError(
            message, where=lacking.folder, remedy="give a model and the base it was fine-tuned from"
        )
    for name in sorted(new.tensors):
        mine, theirs = (list(model.tensors[name].shape) for model in (new, old))
        if mine != theirs:
            raise PomonaError(
                f'tensor "{name}" is {mine}, in {old.folder} it is {theirs}',
                where=new.folder,
                remedy="an adapter cannot change shapes; resize the base's vocabulary first",
            )


def _complete(parts: _Parts, tied: bool) -> None:
    tensors = parts.new.tensors
    lora = {module.name for module in parts.modules}
    for name in parts.biases:
        module = name.removesuffix(".bias")
        parts.made[f"base_model.model.{module}.{'base_layer.' if module in lora else ''}bias"] = (
            parts.made.pop(name)
        )
    parts.whole = sorted(set(parts.whole))
    for module in parts.whole:
        for kind in ("weight", "bias"):
            if (name := f"{module}.{kind}") in tensors:
                parts.made[f"base_model.model.{name}"] = as_stored(tensors[name])
        name = f"{module}.weight"
        if tied and is_embedding(name) and not any(map(is_head, tensors)):
            # PEFT asks for it by name
            parts.made["base_model.model.lm_head.weight"] = as_stored(tensors[name])


def _differ(name: str, new: _Numbers, old: _Numbers) -> bool:
    """Raises PomonaError for NaN and infinity: they have no difference either."""
    first, second = new.tensors[name], old.tensors[name]
    if (
        isinstance(first, Stored)
        and isinstance(second, Stored)
        and not {first.dtype, second.dtype} <= set(FLOATS)
    ):
        return not same_bytes(first, second)
    a, b = new.rows(name), old.rows(name)
    differ = False
    for rows in row_blocks(*a.shape):
        mine, theirs = a.float32(rows), b.float32(rows)
        for values, model in ((mine, new), (theirs, old)):
            if not np.isfinite(values).all():
                message, remedy = f'tensor "{name}" holds NaN or infinity', "get an undamaged copy"
                raise PomonaError(message, where=model.folder, remedy=remedy)
        differ = differ or not np.array_equal(mine, theirs)
    return differ


def _rank(values: NDArray[np.float64], rank: int | None, energy: float | None) -> int:
    wanted = len(values)
    if energy is not None:
        held = np.cumsum(np.square(values)) / np.square(values).sum()
        wanted = int(np.searchsorted(held, energy * (1 - 1e-12))) + 1
    return min(wanted, len(values), rank or len(values))


def in_memory(values: NDArray[np.float64], dtype: str, name: str, where: object) -> NewTensor:
    """A matrix of an adapter, in the type it is written in."""
    data = encode_finite(np.ascontiguousarray(values, np.float32), dtype, name, where)
    return NewTensor(dtype, values.shape, lambda: (data,))


def as_stored(stored: Stored | NewTensor) -> NewTensor:
    """A tensor that goes along as it is."""
    if isinstance(stored, NewTensor):
        return stored

    def blocks() -> Iterator[bytes]:
        values = TensorRows(stored)
        yield from (values.stored(rows).tobytes() for rows in row_blocks(*values.shape))

    return NewTensor(stored.dtype, stored.shape, blocks)


def _settings(parts: _Parts, config: Mapping[str, Any], base: Path) -> dict[str, Any]:
    causal = str((config.get("architectures") or [""])[0]).endswith("ForCausalLM")
    tied = ties_in(base) and any(is_embedding(f"{module}.weight") for module in parts.whole)
    return adapter_settings(parts.modules) | {
        "task_type": "CAUSAL_LM" if causal else None,
        "base_model_name_or_path": str(base),
        "modules_to_save": parts.whole or None,
        "bias": "all" if parts.biases else "none",
        "fan_in_fan_out": parts.flipped,
        **({"ensure_weight_tying": True} if tied else {}),
    }


def adapter_settings(modules: Sequence[AdapterModule]) -> dict[str, Any]:
    """What adapter_config.json says of modules whose scale is 1: the rank that most have, and the
    others by name.
    """
    ranks = {module.name: module.rank for module in modules}
    usual = Counter(ranks.values()).most_common(1)[0][0] if ranks else 1
    others = {name: rank for name, rank in ranks.items() if rank != usual}
    return {
        "peft_type": "LORA",
        "r": usual,
        "lora_alpha": usual,
        "rank_pattern": others,
        "alpha_pattern": others,
        "lora_dropout": 0.0,
        "use_rslora": False,
        "target_modules": sorted(ranks),
        "inference_mode": True,
    }
