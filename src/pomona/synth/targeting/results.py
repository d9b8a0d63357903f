"""What a plan of targets tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pomona.errors import quantity
from pomona.pages import UNKNOWN, clean, within

FORMAT = 1
_SHOWN = 40  # cells that are printed


@dataclass(frozen=True)
class Cell:
    """A cell by the values of its columns, in order.

    rows: in the training data; share, target: its share of them, and the one that it should have.
    lacks: rows up to that. demand: rows of the demand; far: those far from the training data, as a
    share with its interval. value: the metric of answers there, with its interval; weak: the
    interval is below the value of all. asked: rows to ask for. available, chosen: prompts of the
    pool, and those that were taken. None is not known.
    """

    values: tuple[str, ...]
    rows: int
    share: float
    target: float
    lacks: float
    asked: int
    demand: int | None = None
    far: float | None = None
    far_low: float | None = None
    far_high: float | None = None
    answers: int | None = None
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    weak: bool | None = None
    available: int | None = None
    chosen: int | None = None


@dataclass(frozen=True)
class Plan:
    """How many rows to ask for in each cell, and the prompts that were found for them.

    metric, overall: of all answers. passed: prompts that were not taken, by why.
    """

    by: Sequence[str]
    cells: Sequence[Cell]
    rows: int
    signature: str
    seed: int
    metric: str | None = None
    overall: float | None = None
    passed: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> int:
        """Rows that are asked for, in all cells."""
        return sum(cell.asked for cell in self.cells)

    @property
    def chosen(self) -> int | None:
        """Prompts that were taken; None without a pool."""
        found = [cell.chosen for cell in self.cells if cell.chosen is not None]
        return sum(found) if found else None

    def to_json(self) -> dict[str, Any]:
        """Everything, for programs: each cell with the values of its columns by their names."""
        told = asdict(self)
        told["cells"] = [
            {"cell": dict(zip(self.by, one.values, strict=True)), **written}
            for one, written in zip(self.cells, told["cells"], strict=True)
        ]
        for one in told["cells"]:
            del one["values"]
        return {"pomona_targets": FORMAT, "asked": self.asked, "chosen": self.chosen, **told}

    def table(self) -> list[dict[str, Any]]:
        """A row a cell, with all figures."""
        names = [name for name in Cell.__dataclass_fields__ if name != "values"]
        return [
            {
                **dict(zip(self.by, cell.values, strict=True)),
                **{
                    f"cell_{name}" if name in self.by else name: getattr(cell, name)
                    for name in names
                },
            }
            for cell in self.cells
        ]

    def headline(self) -> str:
        """How much is asked for where, in a line."""
        wanted = [cell for cell in self.cells if cell.asked]
        told = f"{quantity(self.asked, 'row')} for {len(wanted):,} of {len(self.cells):,} cells"
        weak = sum(bool(cell.weak) for cell in self.cells)
        told += f", {weak:,} of which answers are weak" if self.metric else ""
        if self.chosen is not None:
            told += f"; {quantity(self.chosen, 'prompt')} found for them"
        return told

    def shown(self) -> list[dict[str, Any]]:
        """The cells that want most, as people read them."""
        wanted = sorted((c for c in self.cells if c.asked), key=lambda c: (-c.asked, c.values))
        return [self._shown(cell) for cell in wanted[:_SHOWN]]

    def _shown(self, cell: Cell) -> dict[str, Any]:
        told: dict[str, Any] = {
            name: clean(value) for name, value in zip(self.by, cell.values, strict=True)
        }
        told |= {
            "training": cell.rows,
            "share": f"{cell.share:.1%}",
            "target": f"{cell.target:.1%}",
        }
        if cell.demand is not None:
            told["demand"] = cell.demand
            told["far"] = within(cell.far, cell.far_low, cell.far_high, 1, 2)
        if self.metric is not None:
            known = within(cell.value, cell.ci_low, cell.ci_high, 1, 1) if cell.answers else UNKNOWN
            told[self.metric] = known + (" weak" if cell.weak else "")
        told["asked"] = cell.asked
        if cell.available is not None:
            told |= {"in the pool": cell.available, "chosen": cell.chosen}
        return told

    def rest(self) -> str | None:
        """What is not shown of the cells."""
        left = sum(bool(cell.asked) for cell in self.cells) - _SHOWN
        return f"{quantity(left, 'more cell')}: cells.csv has them" if left > 0 else None
