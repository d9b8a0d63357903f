"""What the parameters of a recipe are for each layer, gradients and filters resolved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pomona.merge.plan import MergePlan, TensorJob, Value, inputs_of
from pomona.models.tensors import place_of

_SHOWN = 4
_INNER = ("rows", "rows_from")  # options that no recipe has
Layer = tuple[str, int | None]  # the stack, and the layer's number: None outside the layers
Parts = dict[tuple[Value | None, ...], list[str]]  # the parts of a layer, by their values


@dataclass
class _Run:
    """Layers in a row in which some parts have the same values."""

    stack: str
    first: int | None
    last: int | None
    parts: list[str]
    values: Mapping[str, Value | None]
    whole: bool

    def goes_on(self, layer: Layer, parts: Sequence[str], values: Mapping[str, Any]) -> bool:
        """Whether it holds for a layer too."""
        follows = self.last is not None and layer == (self.stack, self.last + 1)
        return follows and self.parts == parts and self.values == values

    def row(self, *, named: bool) -> dict[str, Any]:
        """As a table has it; `named`: with its stack."""
        where = "outside"
        if self.first is not None:
            where = f"{self.first}" if self.first == self.last else f"{self.first}–{self.last}"
            where = f"{self.stack} {where}" if named else where
        shown = ", ".join(self.parts[:_SHOWN])
        more = f", … ({len(self.parts)})" if len(self.parts) > _SHOWN else ""
        return {"layers": where, "tensors": "all" if self.whole else shown + more, **self.values}


def values_of(plan: MergePlan) -> tuple[dict[str, Any], ...]:
    """A row for each run of layers, and each part of them, with the same values. None where a
    tensor has no such parameter; no rows where no tensor has any.
    """
    identities = {item.identity for job in plan.jobs for item in inputs_of(job)}
    short = {name: name.rstrip("/").rpartition("/")[2] for name in identities}
    named = short if len(set(short.values())) == len(short) else {name: name for name in short}
    said = [_said(job, named) for job in plan.jobs]
    columns = list(dict.fromkeys(name for values in said for name in values if name != "method"))
    if not columns:
        return ()
    if len({values["method"] for values in said}) > 1:
        columns.insert(0, "method")
    groups: dict[Layer, Parts] = {}
    for job, values in zip(plan.jobs, said, strict=True):
        place = place_of(job.name)
        layer, part = (
            ((place.stack, place.layer), place.rest.partition(".")[0])
            if place
            else (("", None), job.name)
        )
        signature = tuple(values.get(name) for name in columns)
        parts = groups.setdefault(layer, {}).setdefault(signature, [])
        parts += [] if part in parts else [part]
    stacks = {stack for stack, layer in groups if layer is not None}
    return tuple(run.row(named=len(stacks) > 1) for run in _runs(groups, columns))


def _runs(groups: Mapping[Layer, Parts], columns: Sequence[str]) -> Iterator[_Run]:
    runs: list[_Run] = []
    for layer, signatures in groups.items():
        for signature, parts in signatures.items():
            values = dict(zip(columns, signature, strict=True))
            run = next((run for run in runs if run.goes_on(layer, parts, values)), None)
            if run is None:
                runs.append(_Run(*layer, layer[1], parts, values, len(signatures) == 1))
            else:
                run.last = layer[1]
    return iter(runs)


def _said(job: TensorJob, named: Mapping[str, str]) -> dict[str, Value]:
    values: dict[str, Value] = {"method": job.method}
    values |= {name: value for name, value in job.options.items() if name not in _INNER}
    for item in inputs_of(job):
        for name, value in item.parameters.items():
            values[f"{name} {named[item.identity]}"] = value
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in values.items()
    }
