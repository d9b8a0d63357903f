"""Lines of JSONL, CSV and plain text into rows.

JSONL has one object a line, checked more strictly than JSON readers do. CSV is as RFC 4180 has it:
a header, quoted fields that may hold newlines; a field with nothing in it is null, `""` is empty
text. With tabs (TSV) a quote means nothing but at the beginning of a field.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import csv

from pomona.errors import PomonaError
from pomona.records.column_types import BATCH_ROWS, DEEPEST
from pomona.records.store import COMPRESSIONS, LONGEST, blocks, lines

MAX_RECORD = LONGEST
MOST_KEYS = 10_000
REJECTED = ["file", "line", "reason", "text", "base64"]  # keys of a row in a file of rejects
_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"|[][{}]', re.DOTALL)
_FIELDS = {
    ",": r'(?:"[^"]*+(?:""[^"]*+)*+"|[^",\r\n]*+)',
    "\t": r'(?:"[^"]*+(?:""[^"]*+)*+"|(?!")[^\t\r\n]*+)',
}
_RECORDS = {
    comma: re.compile(rf"{field}(?:{comma}{field})*+\Z") for comma, field in _FIELDS.items()
}
_NEXT = {comma: re.compile(rf"({field})({comma}|\Z)") for comma, field in _FIELDS.items()}

_SIGN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[][{},"]', re.DOTALL)
_END = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)  # of a text that began before
_ESCAPED = re.compile(rb"[^\\]*+(?:\\.[^\\]*+)*+", re.DOTALL)
_DEEPER = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}

_KINDS: dict[type, str] = {list: "an array", str: "a string", bool: "a boolean"}
_KINDS |= dict.fromkeys((int, float), "a number")


class ParsedRow(NamedTuple):
    """A well-formed row: the number of its first line, its bytes, its values; what ends it."""

    line: int
    raw: bytes
    values: dict[str, Any]
    end: bytes = b"\n"


BATCH_BYTES = 4 << 20  # of rows that are parsed together


class Bad(NamedTuple):
    """A malformed row: the number of its first line, its bytes, what is wrong, and whether it would
    not be, had all rows been looked at for their types.
    """

    line: int
    raw: bytes
    reason: str
    late: bool = False


def rejected(file: str, bad: Bad) -> str:
    """A malformed row as the file of rejects has it."""
    text = bad.raw.decode("utf-8", "backslashreplace")
    coded = None if text.encode() == bad.raw else base64.b64encode(bad.raw).decode()
    row = (file, bad.line, bad.reason, text, coded)
    return json.dumps(dict(zip(REJECTED, row, strict=True)), ensure_ascii=False)


class Blank(NamedTuple):
    """A line that is passed over: its bytes."""

    raw: bytes


def jsonl_rows(lines: Iterable[bytes]) -> Iterator[ParsedRow | Bad]:
    """Parse lines into rows. Blank lines are passed over; all else is a ParsedRow or a Bad."""
    return json_rows((number, raw) for number, raw in enumerate(lines, 1) if raw.strip())


def jsonl_lines(lines: Iterable[bytes]) -> Iterator[ParsedRow | Bad | Blank]:
    """The same, with blank lines."""
    passed: list[Blank] = []

    def noted() -> Iterator[bytes]:
        for line in lines:
            if not line.strip():
                passed.append(Blank(line))
            yield line

    for row in jsonl_rows(noted()):
        yield from passed
        passed.clear()
        yield row
    yield from passed


def json_rows(values: Iterable[tuple[int, bytes]]) -> Iterator[ParsedRow | Bad]:
    """Parse numbered JSON values into rows."""
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
    for number, raw in values:
        if reason := _excess(raw):
            yield Bad(number, raw, reason)
            continue
        try:
            value = decoder.decode(raw.decode("utf-8"))
        except UnicodeDecodeError as error:
            yield Bad(number, raw, _invalid_text(error))
        except json.JSONDecodeError as error:
            yield Bad(number, raw, _explain(error))
        except RecursionError:
            yield Bad(number, raw, "nested too deeply")
        except ValueError as error:
            digits = "digits" in str(error)  # Python's own limit
            yield Bad(number, raw, "an integer has too many digits" if digits else str(error))
        else:
            reason = _no_row(value, raw)
            yield ParsedRow(number, raw, value) if reason is None else Bad(number, raw, reason)


def _excess(raw: bytes) -> str | None:
    """Whether a line is too long or too deep to be parsed."""
    if len(raw) > MAX_RECORD:
        return f"the line is longer than {MAX_RECORD >> 20} MiB"
    if raw.count(b"[") + raw.count(b"{") <= DEEPEST:
        return None
    depth = 0
    for sign in _BRACKET.finditer(raw):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(sign[0], 0)
        if depth > DEEPEST:
            return "nested too deeply"
    return None


def _no_row(value: Any, raw: bytes) -> str | None:
    """Why a JSON value is no row."""
    if not isinstance(value, dict):
        return f"not a JSON object but {_KINDS.get(type(value), 'null')}"
    if len(value) > MOST_KEYS:
        return f"{len(value):,} keys in one object, and at most {MOST_KEYS:,} are read"
    if b"\\ud" in raw.lower() and (half := next(filter(_halved, value), None)):
        return f'the key "{_text(half)}" holds half a surrogate pair'
    return None


def _halved(text: str) -> bool:
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def _text(text: str) -> str:
    """`text` as it can be written, with halves of surrogate pairs as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _invalid_text(error: UnicodeDecodeError) -> str:
    """Which byte is not UTF-8."""
    return f"invalid UTF-8 at byte {error.start + 1} (0x{error.object[error.start]:02x})"


def _explain(error: json.JSONDecodeError) -> str:
    if error.msg == "Extra data":
        return f"not valid JSON: text after the value ends, at column {error.colno}"
    return f"not valid JSON: {error.msg[0].lower()}{error.msg[1:]}, at column {error.colno}"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f'the key "{_text(twice)}" occurs twice')
    return value


def _constant(name: str) -> float:
    raise ValueError(f"not valid JSON: {name} has no JSON form")


def is_array(file: str) -> bool:
    """Whether a file by the name of JSON is one array, and not an object a line."""
    suffixes = [one for one in PurePosixPath(file.lower()).suffixes if one not in COMPRESSIONS]
    if suffixes[-1:] != [".json"]:
        return False
    for block in blocks(file):
        if begun := block.removeprefix(b"\xef\xbb\xbf").lstrip():
            return begun.startswith(b"[")
    return False


def array_elements(file: str) -> Iterator[bytes]:
    """The elements of the array in a file, an empty one behind a last comma. Raises PomonaError
    where the array does not end, something follows it, or an element is too long.
    """
    for count, (element, last) in enumerate(_between(file)):
        if not last or element.strip() or count:
            yield element


def _between(file: str) -> Iterator[tuple[bytes, bool]]:
    """What stands between the brackets and commas, and whether it is the last."""
    held, at, begin, depth, inside = b"", 0, 0, 0, False
    source = blocks(file)
    for block in source:
        held, at, begin = held[begin:] + block, at - begin, 0
        while sign := (_END.match if inside else _SIGN.search)(held, at):
            at, mark, inside = sign.end(), sign[0], sign[0] == b'"' and not inside
            depth += _DEEPER.get(mark, 0)
            if mark == b"[" and depth == 1:
                begin = at
            elif mark == b"," and depth == 1:
                yield held[begin : sign.start()], False
                begin = at
            elif depth == 0:
                yield held[begin : sign.start()], True
                if mark != b"]" or held[at:].strip() or any(more.strip() for more in source):
                    raise _no_array(file, "the array ends before the file does")
                return
        whole = _ESCAPED.match(held, at) if inside else None
        at = whole.end() if whole else len(held)  # a backslash waits for what it escapes
        if len(held) - begin > LONGEST:
            raise _no_array(file, f"an element is longer than {LONGEST >> 20} MiB")
    raise _no_array(file, "the array does not end")


def _no_array(file: str, wrong: str) -> PomonaError:
    remedy = "the file may be damaged or cut short; fetch or write it again"
    return PomonaError(wrong, where=file, remedy=remedy)


def text_rows(lines: Iterable[bytes]) -> Iterator[ParsedRow | Bad]:
    """A row with a `text` for each line. Blank lines are passed over."""
    for number, raw in enumerate(lines, 1):
        if not raw.strip():
            continue
        if len(raw) > MAX_RECORD:
            yield Bad(number, raw, _excess(raw) or "")
            continue
        try:
            yield ParsedRow(number, raw, {"text": raw.decode("utf-8").removesuffix("\r")})
        except UnicodeDecodeError as error:
            yield Bad(number, raw, _invalid_text(error))


def csv_header(lines: Iterable[bytes], where: str, comma: str = ",") -> list[str]:
    """The column names in the first record. Raises PomonaError when there are none or they are
    unusable.
    """
    first = next(_records(lines, comma=comma), None)
    if first is None:
        remedy = "a CSV file begins with a line of column names"
        raise PomonaError("the file is empty", where=where, remedy=remedy)
    fields = [field or "" for field in first[2]] if not isinstance(first, Bad) else []
    many = len(fields) > MOST_KEYS
    if isinstance(first, Bad) or many or "" in fields or len(set(fields)) < len(fields):
        wrong = first.reason if isinstance(first, Bad) else "a column name is empty or occurs twice"
        wrong = f"{len(fields):,} columns, and at most {MOST_KEYS:,} are read" if many else wrong
        remedy = "begin the file with one line of distinct column names"
        raise PomonaError(wrong, where=f"{where}, line 1", remedy=remedy)
    return fields


def csv_head(lines: Iterable[bytes]) -> bytes:
    """The first record as it is written, without its newline."""
    first = next(_records(lines), None)
    return b"" if first is None else first[1]


def csv_rows(
    lines: Iterable[bytes], names: Sequence[str] | None = None, first: int = 1, comma: str = ","
) -> Iterator[ParsedRow | Bad]:
    """Parse the records under the header into rows. Blank lines are passed over unless a lone
    column makes them a null. Where `names` are given there is no header, and the lines begin with
    number `first`.
    """
    told = csv_lines(lines, names, first, comma)
    return (row for row in told if not isinstance(row, Blank))


def csv_lines(
    lines: Iterable[bytes], names: Sequence[str] | None = None, first: int = 1, comma: str = ","
) -> Iterator[ParsedRow | Bad | Blank]:
    """The same, with blank lines."""
    records = _records(lines, first, comma)
    if names is None:
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
            yield Blank(raw)
            continue
        if len(fields) != len(names):
            yield Bad(number, raw, f"{len(fields)} fields where the header has {len(names)}")
        else:
            yield ParsedRow(number, raw, dict(zip(names, fields, strict=True)))


def plain_fields(block: bytes, names: Sequence[str], comma: str = ",") -> pa.Table | None:
    """The fields of whole lines as texts, an empty one as null, all at once. None where row by row
    they may be read otherwise: quotes, carriage returns, blank or too long lines, too many fields,
    bytes that are no text.
    """
    odd = any(sign in block for sign in (b'"', b"\r", b"\0", b"\n\n", b"\xef\xbb\xbf"))
    odd |= not block or block[:1] == b"\n" or block[-1:] == b"\n"
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == ord("\n"))
    longest = np.diff(ends, prepend=-1, append=len(block)).max()
    if odd or len(names) < 2 or longest > MAX_RECORD:
        return None
    read = csv.ReadOptions(column_names=list(names), block_size=len(block) + 1, use_threads=False)
    parse = csv.ParseOptions(
        delimiter=comma, quote_char=False, double_quote=False, ignore_empty_lines=False
    )
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=[""]
    )
    try:
        found = csv.read_csv(io.BytesIO(block), read, parse, convert)
    except pa.ArrowException:
        return None
    return found if found.num_rows == len(ends) + 1 else None


def _records(
    lines: Iterable[bytes], number: int = 1, comma: str = ","
) -> Iterator[tuple[int, bytes, list[str | None]] | Bad]:
    source = enumerate(lines, number)
    again: deque[tuple[int, bytes]] = deque()
    while (start := again.popleft() if again else next(source, None)) is not None:
        taken = [start]
        size, opened = len(start[1]), start[1].count(b'"') % 2 == 1 and not _whole(start[1], comma)
        while (
            opened
            and size <= MAX_RECORD
            and (more := again.popleft() if again else next(source, None)) is not None
        ):
            taken.append(more)
            size += len(more[1])
            opened ^= more[1].count(b'"') % 2 == 1
        raw = b"\n".join(line for _, line in taken)
        if len(start[1]) > MAX_RECORD:
            yield Bad(start[0], raw, _excess(start[1]) or "")
            continue
        try:
            fields = _split(raw.decode("utf-8").removesuffix("\r"), comma)
            wrong = fields is None and not opened
            reason = (
                f"{_misplaced(raw)} in the wrong place" if wrong else "a quoted field never ends"
            )
        except UnicodeDecodeError as error:
            fields, reason = None, _invalid_text(error)
        if fields is not None:
            yield start[0], raw, fields
            continue
        # An opening quote that was a mistake swallowed good lines: only the first one is bad.
        again.extendleft(reversed(taken[1:]))
        yield Bad(*start, reason)


def _misplaced(raw: bytes) -> str:
    return "a quote" if b'"' in raw else "a carriage return"


def _whole(line: bytes, comma: str) -> bool:
    """Whether a line with an odd number of quotes is a record nevertheless: between tabs."""
    text = line.decode("utf-8", "replace").removesuffix("\r")
    return comma == "\t" and _RECORDS[comma].match(text) is not None


def _split(record: str, comma: str) -> list[str | None] | None:
    """The fields of a record, or None when its quotes do not pair up."""
    if '"' not in record:
        # Lines that end in carriage returns alone would be one line, and their rows lost.
        return None if "\r" in record else [field or None for field in record.split(comma)]
    if not _RECORDS[comma].match(record):
        return None
    fields: list[str | None] = []
    for match in _NEXT[comma].finditer(record):
        field, behind = match.groups()
        fields.append(field[1:-1].replace('""', '"') if field.startswith('"') else field or None)
        if not behind:
            break
    return fields


def packs(
    rows: Iterator[ParsedRow | Bad], on_bad: Callable[[Bad], None]
) -> Iterator[list[ParsedRow]]:
    """Well-formed rows, as many together as make a batch; malformed ones go to `on_bad` in turn."""
    pack: list[ParsedRow] = []
    size = 0
    for row in rows:
        if isinstance(row, Bad):
            if pack:
                yield pack
            pack, size = [], 0
            on_bad(row)
            continue
        pack.append(row)
        size += len(row.raw)
        if len(pack) == BATCH_ROWS or size >= BATCH_BYTES:
            yield pack
            pack, size = [], 0
    if pack:
        yield pack


def rows_of(file: str, kind: str) -> Iterator[ParsedRow | Bad]:
    """The rows of a file that says of each its columns; those of an array numbered by element."""
    if kind == "jsonl" and is_array(file):
        return json_rows(enumerate(array_elements(file), 1))
    return (text_rows if kind == "txt" else jsonl_rows)(lines(file))
