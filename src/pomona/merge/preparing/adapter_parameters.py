"""Adapters of parameters that no linear layer holds, such as the stacked experts of a mixture
(PEFT's `target_parameters`): W_e + s·B_e·A_e for every expert e.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from pomona.merge.preparing.adapter_files import Adapter
from pomona.merge.preparing.low_rank import LowRankUpdate
from pomona.models import read_config
from pomona.models.tensors import (
    NewTensor,
    Stored,
    TensorRows,
    View,
    encode_finite,
    stored_array,
    to_float32,
)

Find = Callable[[str], str | None]
_BASE = ".base_layer"  # PEFT nests what changes several parameters of one module
# The parts of a stacked parameter, in its rows' order, as checkpoints of single experts name them.
_SINGLE = {
    "gate_up_proj": (("gate_proj", "up_proj"), ("w1", "w3")),
    "up_proj": (("up_proj",), ("w3",)),
    "down_proj": (("down_proj",), ("w2",)),
}
# model types whose stacked experts are inputs × outputs, and which say so (`is_transposed`)
_INPUTS_FIRST = ("gpt_oss", "aria", "aria_text", "openai_privacy_filter")
_SWAPPED_SINCE = (0, 19)  # version of PEFT that takes all others for outputs × inputs


@dataclass(frozen=True)
class _Parameter:
    """A parameter as the checkpoint has it: one tensor, or for each expert its parts in order."""

    name: str  # as the adapter says it
    shape: tuple[int, ...]
    whole: str | None
    singles: tuple[tuple[str, ...], ...] = ()  # by expert


def parameter_tensors(
    view: View, adapter: Adapter, find: Find
) -> tuple[dict[str, NewTensor], set[str]]:
    """The tensors that an adapter changes as parameters, and which of its modules these were.

    find: the model's name of a tensor of the adapter. Raises PomonaError for shapes that do not
    fit, and for square experts of which nothing says how they lie.
    """
    made: dict[str, NewTensor] = {}
    handled: set[str] = set()
    if not adapter.parameters:
        return made, handled
    for module, levels in _levels(adapter).items():
        parameters = _parameters(view, adapter, module, find)
        if not parameters:
            continue
        order = _ordered(adapter, module, levels, parameters)
        for level, parameter in zip(levels, order, strict=True):
            made |= _changed(view, adapter, level, parameter)
        handled.update(levels)
    return made, handled


def _levels(adapter: Adapter) -> dict[str, list[str]]:
    """The modules, with what PEFT has nested in each, the innermost first."""
    levels: dict[str, list[str]] = {}
    for module in adapter.parts:
        outer = module
        while outer.endswith(_BASE):
            outer = outer.removesuffix(_BASE)
        levels.setdefault(outer, []).append(module)
    return {outer: sorted(found, key=len, reverse=True) for outer, found in levels.items()}


def _parameters(view: View, adapter: Adapter, module: str, find: Find) -> list[_Parameter]:
    """The parameters of a module that are asked for and that the model has; a layer's own `weight`
    is a module's.
    """
    found = []
    for target in dict.fromkeys(adapter.parameters):
        name = f"{module}.{target.rpartition('.')[2]}"
        if not f".{name}".endswith(f".{target}"):
            continue
        whole = find(name)
        if whole is not None:
            shape = view.info(whole)[1]
            if len(shape) == 3 or not name.endswith(".weight"):
                found.append(_Parameter(name, shape, whole))
        elif single := _singles(view, name, find):
            found.append(single)
    return found


def _singles(view: View, name: str, find: Find) -> _Parameter | None:
    module, _, short = name.rpartition(".")
    for parts in _SINGLE.get(short, ()):
        for stem in (module, re.sub(r"\bmlp\.experts$", "block_sparse_moe.experts", module)):
            experts: list[tuple[str, ...]] = []
            while all(held := [find(f"{stem}.{len(experts)}.{part}.weight") for part in parts]):
                experts.append(tuple(map(str, held)))
            if experts:
                rows = sum(view.info(each)[1][0] for each in experts[0])
                shape = (len(experts), rows, *view.info(experts[0][0])[1][1:])
                return _Parameter(name, shape, None, tuple(experts))
    return None


def _ordered(
    adapter: Adapter, module: str, levels: Sequence[str], parameters: Sequence[_Parameter]
) -> Sequence[_Parameter]:
    """The parameter of each level: PEFT goes through them as the model defines them, and saves no
    names. Those that lead down come last in all models.
    """
    ranked = sorted(parameters, key=lambda parameter: "down" in parameter.name)
    for order in permutations(ranked, len(levels)):
        if all(
            _turns(adapter, level, parameter.shape)
            for level, parameter in zip(levels, order, strict=True)
        ):
            return order
    a, b = (adapter.parts[levels[0]].get(part) for part in ("lora_A", "lora_B"))
    if a is None or b is None:
        raise adapter.wrong(f'"{module}" has no lora_A and lora_B', "save the adapter again")
    shapes = ", ".join(f"{parameter.name} {list(parameter.shape)}" for parameter in parameters)
    raise adapter.wrong(
        f'"{module}" has matrices of {list(a.shape)} and {list(b.shape)}, which fit none of '
        f"{shapes}",
        remedy="name the model this adapter was trained on",
    )


def _turns(adapter: Adapter, level: str, shape: tuple[int, ...]) -> set[bool]:
    """Whether a parameter lies as outputs × inputs, by the shapes of its matrices: both are left
    where it is square, none where they do not fit.
    """
    a, b = (adapter.parts[level].get(part) for part in ("lora_A", "lora_B"))
    if a is None or b is None or len(a.shape) != 2 or len(b.shape) != 2:
        return set()
    experts, rows, columns = (
        shape if len(shape) == 3 else (1, *shape) if len(shape) == 2 else (0,) * 3
    )
    if not experts or a.shape[0] != b.shape[1] or a.shape[0] % experts:
        return set()
    sides = b.shape[0], a.shape[1]
    turns = {True} if sides == (rows, columns) else set[bool]()
    return turns | ({False} if len(shape) == 3 and sides == (columns, rows) else set())


def _outputs_first(view: View, adapter: Adapter, level: str, parameter: _Parameter) -> bool:
    turns = _turns(adapter, level, parameter.shape)
    if len(turns) == 1:
        return turns.pop()
    config = read_config(view.folder)
    inner = config.get("text_config")
    kinds = {str(each.get("model_type")) for each in (config, inner) if isinstance(each, dict)}
    version = re.match(r"(\d+)\.(\d+)", str(adapter.config.get("peft_version")))
    if kinds & set(_INPUTS_FIRST):
        return False
    # Before 0.18 a version was not saved.
    return version is not None and (int(version[1]), int(version[2])) >= _SWAPPED_SINCE


def _changed(
    view: View, adapter: Adapter, level: str, parameter: _Parameter
) -> Iterator[tuple[str, NewTensor]]:
    a, b = (adapter.parts[level][part] for part in ("lora_A", "lora_B"))
    if extra := set(adapter.parts[level]) - {"lora_A", "lora_B"}:
        raise adapter.wrong(
            f'"{level}" holds {sorted(extra)[0]}, which no parameter has', "save the adapter again"
        )
    experts = parameter.shape[0] if len(parameter.shape) == 3 else 1
    scale = np.float32(adapter.scale(parameter.name, a.shape[0] // experts))
    factors = _Factors(a, b, experts, scale, str(adapter.folder))
    if parameter.whole is not None:
        stored = view.tensors[parameter.whole]
        turned = not _outputs_first(view, adapter, level, parameter)
        yield parameter.whole, _stacked(factors, stored, turned=turned)
    for expert, parts in enumerate(parameter.singles):
        first = 0
        for name in parts:
            stored = view.tensors[name]
            if stored.shape[1:] != parameter.shape[2:]:
                raise adapter.misfit(parameter.name, parameter.shape[1:], stored.shape)
            yield name, _single(factors, stored, expert, first)
            first += stored.shape[0]


@dataclass(frozen=True)
class _Factors:
    """A (rank · experts × inputs, expert by expert) and B (outputs × rank · experts, the experts
    within), and the scale.
    """

    a: Stored
    b: Stored
    experts: int
    scale: np.float32
    where: str

    def of(self, expert: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """s·B and A of one expert."""
        rank = self.a.shape[0] // self.experts
        a = TensorRows(self.a).float32(slice(expert * rank, (expert + 1) * rank))
        with np.errstate(over="ignore", invalid="ignore"):
            return _by_expert(self.b, self.experts)[expert] * self.scale, a


@lru_cache(maxsize=1)
def _by_expert(b: Stored, experts: int) -> NDArray[np.float32]:
    # Experts of a checkpoint are written one after the other, and each needs a part of every row.
    values = to_float32(stored_array(b), b.dtype)
    return np.ascontiguousarray(values.reshape(len(values), -1, experts).transpose(2, 0, 1))


def _stacked(factors: _Factors, stored: Stored, *, turned: bool) -> NewTensor:
    def blocks() -> Iterator[bytes]:
        base, sides = TensorRows(stored), stored.shape[-2:]
        stacked = len(stored.shape) == 3
        for expert in range(factors.experts):
            b, a = factors.of(expert)
            rows = slice(expert, expert + 1) if stacked else slice(None)
            values = base.float32(rows).reshape(sides)
            with np.errstate(over="ignore", invalid="ignore"):
                values += a.T @ b.T if turned else b @ a
            yield encode_finite(values, stored.dtype, stored.name, factors.where)

    return NewTensor(stored.dtype, stored.shape, blocks)


def _single(factors: _Factors, stored: Stored, expert: int, first: int) -> NewTensor:
    def blocks() -> Iterator[bytes]:
        b, a = factors.of(expert)
        update = LowRankUpdate(b[first : first + stored.shape[0]], a, None, 1, factors.where)
        yield from update.blocks(stored, stored.dtype)

    return NewTensor(stored.dtype, stored.shape, blocks)
