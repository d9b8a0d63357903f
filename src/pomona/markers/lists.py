r"""Lists of markers as text, and texts with them: behind a prompt, before an answer.

Verbose, as in the paper: `<MARKER_LIST> <lang> de </lang> … </MARKER_LIST>`. Compact: a word for
each marker, in the taxonomy's order, with a blank before it; `~|` stands before the list in a
prompt and `|` behind it in an answer.

What begins a list is escaped in prompts, so that no text brings a marker along: each place where
it would begin or end gets one more backslash (`<\MARKER_LIST>`, `~\|`), and loses one again when
the list is taken off. No other text changes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from pomona.errors import PomonaError
from pomona.markers import compact, compact1
from pomona.markers.taxonomy import Marker, Taxonomy, Value

Form = Literal["verbose", "compact", "compact1"]  # the last one of checkpoints of before
Offered = Literal["verbose", "compact"]
OPEN, CLOSE = "<MARKER_LIST>", "</MARKER_LIST>"
SIGN, END = "~|", "|"
_COMPACT: dict[Form, Any] = {"compact": compact, "compact1": compact1}
# Also such as only look alike to a model: in small letters, with blanks.
_MARKS = {
    "verbose": (r"<(\\*)(\s*/?\s*(?i:MARKER_LIST)\s*>)", r"<\\(\\*)(\s*/?\s*(?i:MARKER_LIST)\s*>)"),
    "compact": (r"~(\\*)(\|)", r"~\\(\\*)(\|)"),
}
_MARKS["compact1"] = _MARKS["compact"]
_HEADS = {"verbose": "<", "compact": "~", "compact1": "~"}
_TAGS = re.compile(r" <([a-z][a-z0-9_]*)> ([^<>]*) </\1>")


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
    places = places_in(taxonomy, form)
    if form == "verbose":
        parts = [places(name, values[name]) for name in taxonomy.listed if name in values]
        return " ".join([OPEN, *parts, CLOSE])
    before, between, trimmed = joining(form)
    told = between.join(places(name, values.get(name)) for name in taxonomy.listed)
    return before + told.rstrip(trimmed)


def places_in(taxonomy: Taxonomy, form: Form) -> Callable[[str, Value | None], str]:
    """What makes a marker's part of a list, from its name and value; None where it is unknown."""
    markers = taxonomy.listed
    if form == "verbose":
        return lambda name, value: (
            "" if value is None else f"<{name}> {_verbose(markers[name], value)} </{name}>"
        )
    how = _COMPACT[form]
    signs = how.signs_of(taxonomy)
    return lambda name, value: how.place(
        signs.get(name), None if value is None else _spelt(markers[name], value)
    )


def joining(form: Form) -> tuple[str, str, str]:
    """What stands before the parts of a compact list and between them, and what is left out at its
    end.
    """
    how = _COMPACT[form]
    return how.BEFORE, how.BETWEEN, how.TRIMMED


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
    if form == "verbose":
        return _verbose_values(text, taxonomy)
    values: dict[str, Value] = {}
    try:
        for name, told, written in places_of(text, taxonomy, form, whole=True):
            if told is None:
                continue
            value = _value(taxonomy.markers[name], unescaped(told)) if written else told
            if value is None:
                return None
            values[name] = value
    except ValueError:
        return None
    return values


def places_of(
    text: str, taxonomy: Taxonomy, form: Form, *, whole: bool
) -> Iterator[tuple[str, str | None, bool]]:
    """The markers of a compact list, or of what may become one where it is not `whole`: name, value
    as text or None, and whether it is written out. ValueError where it is none.
    """
    return _COMPACT[form].places_of(text, taxonomy, whole=whole)


def unescaped(told: str) -> str:
    """A value that is written out in a compact list."""
    return re.sub("%([0-9A-F]{2})", lambda found: chr(int(found[1], 16)), told)


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


def _verbose(marker: Marker, value: Value) -> str:
    return html.escape(_spelt(marker, value), quote=False)


def _spelt(marker: Marker, value: Value) -> str:
    if marker.kind == "integer":
        return str(int(value))
    return repr(float(value)) if marker.kind == "float" else str(value)
