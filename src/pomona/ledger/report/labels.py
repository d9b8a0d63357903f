"""Where the names in the picture go: greedily, the most important first, never on a point, a bar or
another name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_LETTER, _LINE = 6.8, 15.0
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Spot:
    """A point in pixels from the top left with the ends of its bar; a `rank` of zero is placed
    first.
    """

    name: str
    lever: str
    x: float
    y: float
    top: float
    bottom: float
    rank: int


@dataclass(frozen=True)
class Label:
    """Where a spot's name goes: `x` and `y` of its anchor in pixels, and how it is aligned
    there.
    """

    spot: Spot
    x: float
    y: float
    align: str

    @property
    def far(self) -> bool:
        """Whether a line has to lead from the bar up to the name."""
        return self.y < self.spot.top - 12


def place(
    spots: Sequence[Spot], width: float, height: float, lines: Iterable[Box] = ()
) -> list[Label]:
    """Labels for as many spots as fit in a picture of `width` × `height` pixels; `lines` are
    further boxes to keep clear.
    """
    taken = [*lines]
    for spot in spots:
        taken += [
            (spot.x - 6, spot.y - 6, spot.x + 6, spot.y + 6),
            (spot.x - 2, spot.top, spot.x + 2, spot.bottom),
        ]
    found = []
    for spot in sorted(spots, key=lambda spot: spot.rank):
        for label, box in _candidates(spot, width):
            inside = box[0] >= 0 and box[1] >= 0 and box[2] <= width and box[3] <= height
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                found.append(label)
                break
    return found


def _candidates(spot: Spot, width: float) -> Iterable[tuple[Label, Box]]:
    """Beside the point, then beside it a little higher or lower, then over and under its bar,
    pushed inside the picture.
    """
    long = len(spot.name) * _LETTER
    inside = min(max(spot.x, long / 2), width - long / 2)
    beside = [("left", spot.x + 10, spot.y + dy) for dy in (0, -10, 10)] + [
        ("right", spot.x - 10, spot.y + dy) for dy in (0, -10, 10)
    ]
    tiers = [
        spot.top - 9,
        spot.bottom + 9,
        *((spot.top - 24, spot.top - 37, spot.top - 50) if spot.rank < 2 else ()),
    ]
    ends = [("center", x, y) for y in tiers for x in (inside, inside - long / 3, inside + long / 3)]
    for align, x, y in sorted(beside, key=lambda one: abs(one[2] - spot.y)) + ends:
        left = {"left": x, "right": x - long, "center": x - long / 2}[align]
        yield Label(spot, x, y, align), (left, y - _LINE / 2, left + long, y + _LINE / 2)


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
