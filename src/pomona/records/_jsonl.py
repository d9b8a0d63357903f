"""JSON Lines: one object a line, checked more strictly than JSON readers do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple


class Row(NamedTuple):
    """A well-formed row: the number of its first line, its bytes, its values."""

    line: int
    raw: bytes
    values: dict[str, Any]


class Bad(NamedTuple):
    """A malformed row: the number of its first line, its bytes, what is wrong."""

    line: int
    raw: bytes
    reason: str


def rows(lines: Iterable[bytes]) -> Iterator[Row | Bad]:
    """Parse lines into rows. Blank lines are passed over; everything else is a Row or a Bad."""
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        try:
            value = decoder.decode(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield Bad(number, raw, invalid_text(error))
        except json.JSONDecodeError as error:
            yield Bad(number, raw, _explain(error))
        except RecursionError:
            yield Bad(number, raw, "nested too deeply")
        except ValueError as error:
            yield Bad(number, raw, str(error))
        else:
            yield (
                Row(number, raw, value)
                if isinstance(value, dict)
                else Bad(number, raw, f"not a JSON object but {_kind(value)}")
            )


def invalid_text(error: UnicodeDecodeError) -> str:
    """Which byte is not UTF-8."""
    return f"invalid UTF-8 at byte {error.start + 1} (0x{error.object[error.start]:02x})"


def _explain(error: json.JSONDecodeError) -> str:
    if error.msg == "Extra data":
        return f"not valid JSON: text after the value ends, at column {error.colno}"
    return f"not valid JSON: {error.msg[0].lower()}{error.msg[1:]}, at column {error.colno}"


def _kind(value: object) -> str:
    names = {
        list: "an array",
        str: "a string",
        int: "a number",
        float: "a number",
        bool: "a boolean",
    }
    return names.get(type(value), "null")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f'the key "{twice}" occurs twice')
    return value


def _constant(name: str) -> float:
    raise ValueError(f"not valid JSON: {name} has no JSON form")
