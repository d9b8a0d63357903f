"""Numbers and names as people read them, the same in the terminal, the page and the pictures."""

from __future__ import annotations

import math

UNKNOWN = "unknown"  # what is not known is never shown as 0
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def clean(name: str) -> str:
    """`name` on one line with control characters replaced, so that it cannot steer a terminal or
    reorder text.
    """
    if name.isprintable():
        return name
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in name)


def places(low: float, high: float) -> int:
    """Decimals that show two digits of how wide an interval is; of the number itself where both
    ends are one. From two to eight.
    """
    size = high - low or abs(high)
    return min(8, max(2, 1 - math.floor(math.log10(size)))) if size > 0 else 2


def signed(value: float, decimals: int = 2) -> str:
    """`+1.30`, `−0.20`, `+0.0031`; with two decimals or fewer one from ten on."""
    text = f"{abs(value):.{decimals if decimals > 2 or abs(value) < 10 else 1}f}"
    return text if float(text) == 0 else ("+" if value > 0 else "−") + text


def interval(low: float, high: float) -> str:
    """`[−0.10, +0.52]`."""
    decimals = places(low, high)
    return f"[{signed(low, decimals)}, {signed(high, decimals)}]"


def gained(gain: float, low: float, high: float) -> str:
    """A gain as exact as its interval says: `+1.30`."""
    return signed(gain, places(low, high))


def change(value: float | None, low: float | None, high: float | None, scale: float = 1) -> str:
    """`+1.3 [+0.2, +2.4]`, each times `scale`; `+1.3 interval unknown` without one."""
    if value is None:
        return UNKNOWN
    if low is None or high is None:
        return f"{signed(scale * value)} interval {UNKNOWN}"
    ends = (scale * low, scale * high)
    return f"{gained(scale * value, *ends)} {interval(*ends)}"


def within(
    value: float | None, low: float | None, high: float | None, scale: float = 1, decimals: int = 3
) -> str:
    """`0.531 [0.384, 0.684]`, each times `scale`, for what has no sign to tell."""
    if value is None:
        return UNKNOWN
    written = f"{scale * value:.{decimals}f}"
    if low is not None and high is not None:
        written += f" [{scale * low:.{decimals}f}, {scale * high:.{decimals}f}]"
    return written.replace("-", "−")


def bounded(value: float | None, low: float | None, high: float | None, decimals: int = 4) -> str:
    """`0.3110`; where only bounds of it are known `0.2730 to 2.4000`."""
    if value is not None:
        return f"{value:.{decimals}f}"
    return " to ".join(UNKNOWN if end is None else f"{end:.{decimals}f}" for end in (low, high))


def p_value(value: float | None) -> str:
    """`0.012`, `<0.001`; nothing was tested where there is none."""
    if value is None:
        return "—"
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def flops(value: float | None) -> str:
    """`2.9×10¹²`."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    digits, _, exponent = f"{abs(value):.1e}".partition("e")
    sign = "−" if value < 0 else ""
    return f"{sign}{digits.removesuffix('.0')}×10{str(int(exponent)).translate(_RAISED)}"


def count(value: float | None) -> str:
    """`1,234`."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def short(value: float | None) -> str:
    """`950`, `9.5k`, `1.2M`."""
    if value is None:
        return UNKNOWN
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}".removesuffix(".0") + unit
    return f"{value:.0f}"


def parameters(count: float | None) -> str:
    """`7B`, `1.5B`, `350M`."""
    if count is None:
        return UNKNOWN
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= 0.9995 * size:  # what rounds to a thousand of the next smaller unit
            return f"{count / size:.3g}{unit}"
    return f"{count:.0f}"


def amount(value: float | None) -> str:
    """Three digits of a number of any size: `0.00123`, `12.3`, `1,230,000`."""
    if value is None:
        return UNKNOWN
    if value == 0:
        return "0"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}".replace("-", "−")


def size(count: float) -> str:
    """Bytes as people read them: `812 kB`, `1.4 GB`."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return f"{count:.0f} B"


def clock(seconds: float) -> str:
    """Seconds as people read them: `0:12`, `1:02:30`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
