"""From floating-point operations to kilowatt-hours, by an efficiency that is stated, and how long a
brain works for as much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pomona.errors import PomonaError, nearest
from pomona.pages import amount

JOULES_PER_KWH = 3.6e6
_MOST_PER_JOULE = 1e30  # far beyond any device: what follows is still a number
BRAIN_WATTS = 20.0  # Attwell & Laughlin (2001) and others; the point of comparison, no measurement
# Dense 16-bit operations a second and watts, by the makers' data sheets
_DEVICES = {
    "v100": (125e12, 300.0),
    "a100": (312e12, 400.0),
    "h100": (989.4e12, 700.0),
    "h200": (989.4e12, 700.0),
}

_UNITS = [(1e6, "GWh"), (1e3, "MWh"), (1.0, "kWh"), (1e-3, "Wh"), (1 / JOULES_PER_KWH, "J")]
_TIMES = [
    (24 * 365.25, "years"),
    (24.0, "days"),
    (1.0, "hours"),
    (1 / 60, "minutes"),
    (1 / 3600, "seconds"),
]


@dataclass(frozen=True)
class Efficiency:
    """Floating-point operations that a joule buys, and what that rests on; `device` is None where
    only the number was given.
    """

    flop_per_joule: float
    device: str | None
    utilisation: float | None
    overhead: float

    def energy(self, flops: float | None) -> Energy | None:
        """What so many operations take; None where they are not known."""
        if flops is None:
            return None
        kwh = flops / self.flop_per_joule / JOULES_PER_KWH
        return Energy(kwh, 1000 * kwh / BRAIN_WATTS)

    def told(self) -> str:
        """The assumptions in words."""
        if self.device is None:
            return f"{self.flop_per_joule:.3g} FLOP/J, as given"
        flop, watts = _DEVICES[self.device]
        return (
            f"{self.flop_per_joule:.3g} FLOP/J: {self.device} with {flop / 1e12:g} TFLOP/s at "
            f"{watts:g} W, {self.utilisation:.0%} of that used, {self.overhead:g} times its power "
            "for the whole building"
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class Energy:
    """Kilowatt-hours, and the hours for which they would run a brain of 20 W."""

    kwh: float
    brain_hours: float

    def told(self) -> str:
        """In units of its size: `185 J, 9.23 seconds of a brain (20 W)`."""
        return f"{_in(self.kwh, _UNITS)}, {_in(self.brain_hours, _TIMES)} of a brain (20 W)"


def _in(value: float, units: Sequence[tuple[float, str]]) -> str:
    size, unit = next((one for one in units if value >= one[0]), units[-1])
    return f"{amount(value / size)} {unit}"


def efficiency(
    device: str = "h100",
    utilisation: float = 0.4,
    overhead: float = 1.1,
    flop_per_joule: float | None = None,
) -> Efficiency:
    """How many operations a joule buys.

    Args:
        device: v100, a100, h100 or h200, by its data sheet.
        utilisation: Share of the device's operations that are those of the model; less when
            answering one by one.
        overhead: Power of the whole building by that of its devices (PUE).
        flop_per_joule: Operations that a joule buys, in place of the others.

    Raises:
        PomonaError: an unknown device, or a number out of range.
    """
    if flop_per_joule is not None:
        if not 1 <= flop_per_joule <= _MOST_PER_JOULE:
            raise _out_of_range("flop_per_joule", flop_per_joule, f"1 to {_MOST_PER_JOULE:.0e}")
        return Efficiency(flop_per_joule, None, None, 1.0)
    if device not in _DEVICES:
        raise PomonaError(f'unknown device "{device}"', remedy=nearest(device, _DEVICES))
    if not 1e-6 <= utilisation <= 1:
        raise _out_of_range("utilisation", utilisation, "a share above 0, at most 1")
    if not 1 <= overhead <= 1000:
        raise _out_of_range("overhead", overhead, "1 or more, at most 1000")
    flop, watts = _DEVICES[device]
    return Efficiency(flop * utilisation / (watts * overhead), device, utilisation, overhead)


def _out_of_range(name: str, value: float, wanted: str) -> PomonaError:
    return PomonaError(f"{name} is {value}", where="energy", remedy=f"give {wanted}")
