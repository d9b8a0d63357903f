"""CSV as RFC 4180 has it: a header, quoted fields that may hold newlines. A field with nothing in
it is null, `""` is empty text.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator

from pomona.errors import PomonaError
from pomona.records._jsonl import Bad, Row, invalid_text

MAX_RECORD = 64 << 20
_FIELD = r'(?:"[^"]*+(?:""[^"]*+)*+"|[^",\r\n]*+)'
_RECORD = re.compile(rf"{_FIELD}(?:,{_FIELD})*+\Z")
_NEXT = re.compile(rf"({_FIELD})(,|\Z)")


def header(lines: Iterable[bytes], where: str) -> list[str]:
    """The column names in the first record. Raises PomonaError when there are none or they are
    unusable.
    """
    first = next(_records(lines), None)
    if first is None:
        raise PomonaError(
            "the file is empty", where=where, remedy="a CSV file begins with a line of column names"
        )
    fields = [field or "" for field in first[2]] if not isinstance(first, Bad) else []
    if isinstance(first, Bad) or "" in fields or len(set(fields)) < len(fields):
        wrong = first.reason if isinstance(first, Bad) else "a column name is empty or occurs twice"
        raise PomonaError(
            wrong,
            where=f"{where}, line 1",
            remedy="begin the file with one line of distinct column names",
        )
    return fields


def rows(lines: Iterable[bytes]) -> Iterator[Row | Bad]:
    """Parse the records under the header into rows. Blank lines are passed over unless a lone
    column makes them a null.
    """
    records = _records(lines)
    head = next(records, None)
    if head is None or isinstance(head, Bad):
        return
    names = [field or "" for field in head[2]]
    for record in records:
        if isinstance(record, Bad):
            yield record
            continue
        number, raw, fields = record
        if fields == [None] and len(names) > 1:
            continue
        if len(fields) != len(names):
            yield Bad(number, raw, f"{len(fields)} fields where the header has {len(names)}")
        else:
            yield Row(number, raw, dict(zip(names, fields, strict=True)))


def _records(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes, list[str | None]] | Bad]:
    source = enumerate(lines, 1)
    again: deque[tuple[int, bytes]] = deque()
    while (start := again.popleft() if again else next(source, None)) is not None:
        taken = [start]
        size, opened = len(start[1]), start[1].count(b'"') % 2 == 1
        while (
            opened
            and size <= MAX_RECORD
            and (more := again.popleft() if again else next(source, None)) is not None
        ):
            taken.append(more)
            size += len(more[1])
            opened ^= more[1].count(b'"') % 2 == 1
        raw = b"\n".join(line for _, line in taken)
        try:
            fields = _split(raw.decode("utf-8").removesuffix("\r"))
            reason = (
                "a quote in the wrong place"
                if fields is None and not opened
                else "a quoted field never ends"
            )
        except UnicodeDecodeError as error:
            fields, reason = None, invalid_text(error)
        if fields is not None:
            yield start[0], raw, fields
            continue
        again.extendleft(reversed(taken[1:]))
        yield Bad(*start, reason)


def _split(record: str) -> list[str | None] | None:
    """The fields of a record, or None when its quotes do not pair up."""
    if '"' not in record:
        return [field or None for field in record.split(",")]
    if not _RECORD.match(record):
        return None
    fields: list[str | None] = []
    for match in _NEXT.finditer(record):
        field, comma = match.groups()
        fields.append(field[1:-1].replace('""', '"') if field.startswith('"') else field or None)
        if not comma:
            break
    return fields
