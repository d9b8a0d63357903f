r"""Lists of markers as text, and texts with them: behind a prompt, before an answer.

Verbose, as in the paper: `<MARKER_LIST> <lang> de </lang> … </MARKER_LIST>`. Compact: a letter or
digit for one of several values, `_` where nothing is known, other values with `;` behind them, in
the taxonomy's order; `~|` stands before it in a prompt and `|` behind it in an answer.

What begins a list is escaped in prompts, so that no text brings a marker along: each place where
it would begin or end gets one more backslash (`<\MARKER_LIST>`, `~\|`), and loses one again when
the list is taken off. No other text changes.
"""

from __future__ import annotations

import html
import re
import string
from collections.abc import Mapping
from typing import Literal

from pomona.errors import PomonaError
from pomona.markers.taxonomy import Marker, Taxonomy, Value

Form = Literal["verbose", "compact"]
OPEN, CLOSE = "<MARKER_LIST>", "</MARKER_LIST>"
SIGN, END = "~|", "|"
UNKNOWN = "_"
CODES = string.digits + string.ascii_lowercase + string.ascii_uppercase
# Also such as only look alike to a model: in small letters, with blanks.
_MARKS = {
    "verbose": (r"<(\\*)(\s*/?\s*(?i:MARKER_LIST)\s*>)", r"<\\(\\*)(\s*/?\s*(?i:MARKER_LIST)\s*>)"),
    "compact": (r"~(\\*)(\|)", r"~\\(\\*)(\|)"),
}
_HEADS = {"verbose": "<", "compact": "~"}
_TAGS = re.compile(r" <([a-z][a-z0-9_]*)> ([^<>]*) </\1>")
_ESCAPED = {char: f"%{ord(char):02X}" for char in "%;|~\n\r"}


def escape(prompt: str, form: Form) -> str:
    """The prompt without anything that would begin or end a list."""
    return re.sub(_MARKS[form][0], rf"{_HEADS[form]}\\\1\2", prompt)


def unescape(prompt: str, form: Form) -> str:
    """What `escape` was given."""
    return re.sub(_MARKS[form][1], rf"{_HEADS[form]}\1\2", prompt)


def list_of(values: Mapping[str, Value], taxonomy: Taxonomy, form: Form) -> str:
    """The list of the markers that are known. Raises PomonaError for an unknown marker and a value
    that is none of its marker's.
    """
    taxonomy.check(values)
    if form == "verbose":
        parts = [
            f"<{name}> {verbose(one, values[name])} </{name}>"
            for name, one in taxonomy.listed.items()
            if name in values
        ]
        return " ".join([OPEN, *parts, CLOSE])
    told = [code(one, values.get(name)) for name, one in taxonomy.listed.items()]
    return trimmed("".join(told))


def attach(prompt: str, values: Mapping[str, Value], taxonomy: Taxonomy, form: Form) -> str:
    """A prompt with a list behind it, without one where nothing is known."""
    text = escape(prompt, form)
    if not values:
        taxonomy.check(values)
        return text
    between = " " if form == "verbose" else SIGN
    return f"{text}{between}{list_of(values, taxonomy, form)}"


def begin(answer: str, values: Mapping[str, Value], taxonomy: Taxonomy, form: Form) -> str:
    """An answer with a list before it."""
    return f"{list_of(values, taxonomy, form)}{' ' if form == 'verbose' else END}{answer}"


def detach(prompt: str, form: Form) -> str:
    """The prompt as it was before `attach`. It needs no taxonomy."""
    return unescape(cut(prompt, form), form)


def cut(prompt: str, form: Form) -> str:
    """The prompt without the list behind it, still escaped."""
    if form == "verbose":
        at = prompt.rfind(f" {OPEN} ") if prompt.endswith(CLOSE) else -1
    else:
        at = prompt.rfind(SIGN)
    return prompt if at < 0 else prompt[:at]


def read_answer(text: str, taxonomy: Taxonomy, form: Form) -> tuple[dict[str, Value] | None, str]:
    """The markers that an answer begins with, and the answer without them; None and the whole of it
    where it does not begin with a list.
    """
    if form == "verbose":
        end = text.find(CLOSE) if text.startswith(OPEN) else -1
        told = text[: end + len(CLOSE)]
        rest = text[len(told) :].removeprefix(" ")
    else:
        end = text.find(END)
        told, rest = text[: max(end, 0)], text[end + 1 :]
    values = read_list(told, taxonomy, form) if end >= 0 else None
    return (None, text) if values is None else (values, rest)


def bare_answer(text: str, form: Form) -> str:
    """An answer of the training form without its list."""
    end = CLOSE + " " if form == "verbose" else END
    _, found, rest = text.partition(end)
    if not found:
        raise PomonaError("does not begin with a list of markers")
    return rest


def read_list(text: str, taxonomy: Taxonomy, form: Form) -> dict[str, Value] | None:
    """The markers of a list, None where it is none of this taxonomy."""
    return _verbose_values(text, taxonomy) if form == "verbose" else _codes(text, taxonomy)


def _verbose_values(text: str, taxonomy: Taxonomy) -> dict[str, Value] | None:
    if not (text.startswith(OPEN) and text.endswith(f" {CLOSE}")):
        return None
    listed = taxonomy.listed
    inner, at, values = text[len(OPEN) : -len(CLOSE) - 1], 0, {}
    while found := _TAGS.match(inner, at):
        name, at = found[1], found.end()
        one = listed.get(name)
        value = None if one is None else _value(one, html.unescape(found[2]))
        if value is None or name in values:
            return None
        values[name] = value
    return values if at == len(inner) else None


def _codes(text: str, taxonomy: Taxonomy) -> dict[str, Value] | None:
    values: dict[str, Value] = {}
    for name, one in taxonomy.listed.items():
        if not text:
            break
        letters = codes_of(one)
        if letters is None:
            told, _, text = text.partition(";")
            if not told:
                continue
            value = _value(one, re.sub("%([0-9A-F]{2})", lambda m: chr(int(m[1], 16)), told))
        else:
            told, text = text[0], text[1:]
            if told == UNKNOWN:
                continue
            value = next((name for name, letter in letters.items() if letter == told), None)
        if value is None:
            return None
        values[name] = value
    return None if text else values


def _value(marker: Marker, text: str) -> Value | None:
    value: Value = text
    try:
        if marker.kind == "integer":
            value = int(text)
        elif marker.kind == "float":
            value = float(text)
    except ValueError:
        return None
    return None if marker.wrong(value) else value


def verbose(marker: Marker, value: Value) -> str:
    """A value as it stands in a verbose list."""
    return html.escape(_spelt(marker, value), quote=False)


def _spelt(marker: Marker, value: Value) -> str:
    if marker.kind == "integer":
        return str(int(value))
    return repr(float(value)) if marker.kind == "float" else str(value)


def codes_of(marker: Marker) -> dict[str, str] | None:
    """The letter of each value in a compact list; None where values are written out."""
    names = list(marker.values)
    if not names or len(names) > len(CODES):
        return None
    if all(len(one) == 1 and one in CODES for one in names):
        return {one: one for one in names}
    return dict(zip(names, CODES, strict=False))


def code(marker: Marker, value: Value | None) -> str:
    """A marker's part of a compact list."""
    letters = codes_of(marker)
    if letters is not None:
        return UNKNOWN if value is None else letters[str(value)]
    if value is None:
        return ";"
    told = "".join(_ESCAPED.get(char, char) for char in _spelt(marker, value))
    return f"{told.removesuffix('_')}%5F;" if told.endswith("_") else f"{told};"


def trimmed(codes: str) -> str:
    """A compact list without what is unknown at its end."""
    return codes.rstrip(";_")
