"""Plain text files that take the place of a table of texts."""

from __future__ import annotations

from pathlib import Path

from pomona.documents import open_file
from pomona.errors import PomonaError


def read_plain(file: Path) -> str:
    """The text of a file, whose lines end in a line feed alone. Raises PomonaError where it cannot
    be read, or is not UTF-8.
    """
    try:
        with open_file(file) as stream:
            text = stream.read().decode("utf-8")
    except OSError as error:
        remedy = "give a text file, or a table with the column text"
        raise PomonaError(f"cannot be read: {error.strerror}", where=file, remedy=remedy) from None
    except UnicodeDecodeError as error:
        message = f"is not UTF-8: byte {error.start:,}"
        raise PomonaError(message, where=file, remedy="convert it to UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
