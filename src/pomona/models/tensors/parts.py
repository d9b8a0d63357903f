"""A quantised model: what its config.json says of its weights, the tensors that belong to each, and
what is told where they do not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from pomona.errors import PomonaError
from pomona.models.tensors.files import Stored, View

_MOST = 1 << 30  # of what a group or block may hold


@dataclass(frozen=True)
class Quantised:
    """A quantised model and what its config.json says of that."""

    view: View
    settings: Mapping[str, Any]
    name: str

    def wrong(
        self, tensor: str, text: str, remedy: str = "save it in bfloat16 first"
    ) -> PomonaError:
        return PomonaError(
            f'tensor "{tensor}" of "{self.name}" {text}', where=self.view.folder, remedy=remedy
        )

    def part(self, name: str, of: str) -> Stored:
        """A tensor that belongs to a weight."""
        if name not in self.view.tensors:
            raise self.wrong(of, f'is quantised, and there is no "{name}"', "copy it again")
        return self.view.tensors[name]

    def given(self, *names: str) -> list[Stored | None]:
        """Tensors that a weight may have."""
        return [self.view.tensors.get(name) for name in names]

    def matrices(self, names: Mapping[str, Stored], sides: int = 2) -> None:
        """Raise PomonaError unless these are matrices."""
        for name, stored in names.items():
            if len(stored.shape) != sides or not prod(stored.shape):
                raise self.wrong(name, f"is {list(stored.shape)}, no matrix", "copy it again")

    def number(self, key: str, usual: int, known: tuple[int, ...] = ()) -> int:
        """A whole number of the settings."""
        value = self.settings.get(key, usual)
        if type(value) is not int or abs(value) > _MOST or (known and value not in known):
            raise PomonaError(
                f'quantization_config says "{key}": {value!r}'[:120],
                where=self.view.folder / "config.json",
                remedy=f"known are {', '.join(map(str, known)) or 'whole numbers'}",
            )
        return value

    def rules(self) -> list[Mapping[str, Any]]:
        """What compressed-tensors says of weights, by group of layers."""
        groups = self.settings.get("config_groups") or {}
        listed = groups.values() if isinstance(groups, Mapping) else ()
        return [
            group["weights"]
            for group in listed
            if isinstance(group, Mapping) and isinstance(group.get("weights"), Mapping)
        ]

    def groups(self) -> list[int]:
        """The inputs that share a scale, as the settings say them; without them, all."""
        said = [rule.get("group_size") for rule in self.rules()]
        return [size for size in said if type(size) is int and 0 < size <= _MOST] or [_MOST]

    def blocks(self) -> list[list[int]]:
        """Rows and columns that share a scale, where the settings say it."""
        said = [self.settings.get("weight_block_size")]
        for rule in self.rules():
            group = rule.get("group_size")
            grouped = type(group) is int and group > 0
            said.append(rule.get("block_structure") or ([1, group] if grouped else None))
        blocks = [block for block in said if block is not None]
        for block in blocks:
            sides = block if isinstance(block, list) else []
            if len(sides) != 2 or not all(
                type(side) is int and 0 < side <= _MOST for side in sides
            ):
                raise PomonaError(
                    f"quantization_config says that blocks of weights are {block!r}"[:120],
                    where=self.view.folder / "config.json",
                    remedy="two whole numbers are known, such as [128, 128]",
                )
        return blocks

    def misfit(self, weight: str, *others: Stored) -> PomonaError:
        """The error for parts of a weight that do not fit each other."""
        shapes = ", ".join(f"{each.name} {list(each.shape)}" for each in others)
        return self.wrong(weight, f"and what belongs to it do not fit: {shapes}", "copy it again")

    def fits(self, weight: str, wanted: Mapping[str, tuple[int, ...]]) -> None:
        """Raise PomonaError where a tensor that belongs to a weight has another shape than is
        wanted.
        """
        held = {
            name: list(self.view.tensors[name].shape)
            for name in (weight, *wanted)
            if name in self.view.tensors
        }
        asked = {name: list(wanted.get(name, shape)) for name, shape in held.items()}
        if held != asked:
            told = [
                f"{name} {shape}" + f" where {asked[name]} is wanted" * (shape != asked[name])
                for name, shape in held.items()
            ]
            text = f"and what belongs to it do not fit: {', '.join(told)}"
            raise self.wrong(weight, text, "copy it again")
