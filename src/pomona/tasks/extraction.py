"""The answer in a text: a number, what a box holds, or what a pattern or a function finds."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any, Literal

from pomona._lazy import function_named
from pomona.errors import PomonaError, first_line, nearest
from pomona.tasks._metrics import EXTRACTORS

Match = Literal["first", "last"]
SECONDS = 1.0  # of a pattern over one text: model output may make it try for years
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])\.\d+"
_NUMBER = re.compile(rf"(?:(?<![\w.,)])[-−+])?(?:{_DIGITS})(?:[eE][-−+]?\d{{1,3}}(?!\w))?")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{")
_BRACE = re.compile(r"[{}]")
_LONGEST = 400


def extractor(how: str, match: Match = "last") -> Callable[[str], str | None]:
    """See `pomona.tasks.extractor`."""
    if how.startswith("regex:"):
        pattern = compiled(how[6:])
        return lambda text: found(pattern, text, match)
    if how in _KNOWN:
        known = _KNOWN[how]
        return lambda text: known(text, match)
    if ":" not in how:
        remedy = nearest(how, [*EXTRACTORS, "regex:PATTERN", "MODULE:FUNCTION"])
        raise PomonaError(f'there is no extractor "{how}"', remedy=remedy)
    own = function_named(how)

    def called(text: str) -> str | None:
        try:
            value = own(text)
        except Exception as error:  # a function of the user's may fail in any way
            message = f"failed on {text[:60]!r}: {first_line(error)}"
            raise PomonaError(message, where=how, remedy="mend the function") from error
        return None if value is None else str(value)

    return called


@cache
def compiled(pattern: str) -> Any:
    """A pattern as the package `regex` reads it, which knows all of Python's and can be stopped.
    Raises PomonaError.
    """
    import regex

    try:
        return regex.compile(pattern)
    except regex.error as error:
        remedy = "give a Python regular expression after regex:"
        raise PomonaError(f"the pattern cannot be read: {error}", remedy=remedy) from None


def found(pattern: Any, text: str, match: Match = "last") -> str | None:
    """What `searched` finds, or its first group where the pattern has one; None where empty."""
    taken = searched(pattern, text, match)
    if taken is None:
        return None
    return (taken[1] if pattern.groups else taken[0]) or None


def searched(pattern: Any, text: str, match: Match = "first") -> Any:
    """The first or the last match of a `compiled` pattern, None without one. Raises PomonaError
    where that takes too long.
    """
    taken = None
    try:
        if match == "first":
            return pattern.search(text, timeout=SECONDS)
        for one in pattern.finditer(text, timeout=SECONDS):
            taken = one
    except TimeoutError:
        message = f"the pattern {pattern.pattern!r} took more than {SECONDS:g} s"
        remedy = "write one that has a single way to match, without (a+)+"
        raise PomonaError(message, where=f"text {text[:60]!r}", remedy=remedy) from None
    return taken


def as_number(text: str) -> Decimal | None:
    """The number that all of a text is, None where it is something else."""
    text = text.strip().removesuffix(".")
    return _value(text) if len(text) <= _LONGEST and _NUMBER.fullmatch(text) else None


def _number(text: str, match: Match) -> str | None:
    """A number without thousands separators, a plus sign, or zeros that do not count."""
    numbers = _NUMBER.findall(text)
    if not numbers:
        return None
    digits = numbers[0 if match == "first" else -1]
    if len(digits) > _LONGEST:
        return digits.replace(",", "").replace("−", "-")
    value = format(_value(digits), "f")
    value = value.rstrip("0").rstrip(".") if "." in value else value
    return "0" if value == "-0" else value


def _value(digits: str) -> Decimal:
    return Decimal(digits.replace(",", "").replace("−", "-"))


def _boxed(text: str, match: Match) -> str | None:
    """The content of a \\boxed{…} or \\fbox{…} whose braces close."""
    starts = {match.end() - 1 for match in _BOX.finditer(text)}
    opened: list[int] = []
    closed: list[tuple[int, int]] = []
    for brace in _BRACE.finditer(text) if starts else ():
        at = brace.start()
        if brace[0] == "{":
            opened.append(at)
        elif opened and (start := opened.pop()) in starts:
            closed.append((start, at))
    if not closed:
        return None
    start, end = min(closed) if match == "first" else max(closed)
    return " ".join(text[start + 1 : end].split())


def _whole(text: str, match: Match) -> str | None:
    """The text without case, runs of whitespace and a full stop at its end."""
    return " ".join(text.split()).casefold().rstrip(".") or None


def _answer(text: str, match: Match) -> str | None:
    return _boxed(text, match) or _number(text, match) or _whole(text, match)


_KNOWN: dict[str, Callable[[str, Match], str | None]] = {
    "answer": _answer,
    "boxed": _boxed,
    "number": _number,
    "text": _whole,
}
