"""Errors a user can act on: what was wrong, where, and what to do. The command line prints them in
one line and exits with `exit_code`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class Sought:
    """A place that takes a search to be said by `str`: an error says it at once."""


class PomonaError(Exception):
    """Bad input or an impossible request. `where` names the file, row or key; `remedy` says what to
    do.
    """

    exit_code = 2

    def __init__(self, message: str, *, where: object = None, remedy: str | None = None) -> None:
        where = str(where) if isinstance(where, Sought) else where  # as long as the files are there
        self.message, self.where, self.remedy = message, where, remedy
        super().__init__(message)

    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where is not None else self.message
        return f"{head} — {self.remedy}" if self.remedy else head


class LateTypesError(PomonaError):
    """A row has a column or a type that the first rows, by which a table is read, have not."""


class RowError(PomonaError):
    """What is wrong with a row of a table in memory, at `row` (from 0): who made the table of files
    says where it stands there.
    """

    def __init__(self, message: str, row: int = 0, *, remedy: str | None = None) -> None:
        self.row = row
        super().__init__(message, where=f"row {row + 1}", remedy=remedy)


class GateFailed(PomonaError):
    """The work was done, and its result does not pass a gate that the user set."""

    exit_code = 1


class ResourceError(PomonaError):
    """The input is right, but disk, memory, network, a cluster or a budget gave out half-way: the
    same command may go on where it was.
    """

    exit_code = 1


class Later(PomonaError):
    """Nothing went wrong: the work is with somebody else, and the same command takes it up when it
    is done. The exit code is that of the system for "try again later".
    """

    exit_code = 75


def positive(settings: object, where: str, *names: str, least: float = 0) -> None:
    """Raise PomonaError for the first of these settings that is not above 0, or below `least`."""
    for name in names:
        value = getattr(settings, name)
        if not value > 0 or value < least:
            raise PomonaError(f"{name} is {value}", where=where, remedy="give a positive number")


def quantity(count: int, one: str, several: str | None = None) -> str:
    """How texts count: "1 row", "1,200 rows"; with `several`, "1 row is" and "2 rows are"."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def are(count: int) -> str:
    """The verb behind so many things."""
    return "is" if count == 1 else "are"


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean "X"?`, or the list of what is known when nothing is close."""
    known = sorted(known)
    same = [one for one in known if one.casefold() == name.casefold()]
    close = same or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f'did you mean "{close[0]}"?' if close else f"known: {', '.join(known)}"


def row_of(where: object, index: int) -> str:
    """How errors and notes name the row at `index` (from 0) of a file or table: rows count from 1,
    as lines do.
    """
    return f"{where}, row {index + 1}"


def first_line(error: BaseException) -> str:
    """The first line of an error's text, without a final stop."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def reason_of(error: BaseException) -> str:
    """The first line of what a library says, its class where it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
