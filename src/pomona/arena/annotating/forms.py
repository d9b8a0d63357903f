"""From the fields of a form to what the arena keeps; whatever is wrong is said by the field's
name.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from pomona.arena.annotating.people import Person, read_tags
from pomona.arena.annotating.queue import Said, Task
from pomona.errors import PomonaError
from pomona.web import wrong

Form = Mapping[str, list[str]]
OUTCOMES = ("a", "b", "tie", "both_bad")  # as shown: a is on the left
LONGEST = 100_000  # letters of a text
_MOST_FIELDS = 100
_KEY = re.compile(r"[A-Za-z0-9_-]{8,64}")


def read_form(body: bytes) -> dict[str, list[str]]:
    """The fields of an urlencoded form. ApiError 400 when it is none."""
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:
        raise wrong(None, "the form cannot be read") from None
    form: dict[str, list[str]] = {}
    for name, value in pairs:
        if "\0" in value:
            raise wrong(name, f"{name} has the character NUL in it")
        form.setdefault(name, []).append(value.replace("\r\n", "\n"))
    return form


def text(form: Form, name: str, *, needed: bool = False, longest: int = LONGEST) -> str | None:
    """A field's text; None where it is empty. ApiError 400 when it is needed, or too long."""
    value = form.get(name, [""])[0]
    if len(value) > longest:
        raise wrong(name, f"{name} is longer than {longest:,} letters")
    if not value.strip():
        if needed:
            raise wrong(name, f"{name} is empty")
        return None
    return value


def key_of(form: Form) -> str:
    """What makes a form that is sent again the same answer."""
    key = form.get("key", [""])[0]
    if not _KEY.fullmatch(key):
        raise wrong("key", "key is not 8 to 64 letters, digits, - and _")
    return key


def languages_of(form: Form) -> tuple[str, ...]:
    """Languages by their tags. ApiError 400 for what is no tag."""
    try:
        return read_tags(form.get("languages", []))
    except PomonaError as error:
        raise wrong("languages", str(error)) from error


def read_said(form: Form, task: Task) -> Said:
    """What a form says of a task. ApiError 400 for a field that is missing or wrong."""
    comment, seconds = text(form, "comment"), _seconds(form)
    if task.kind == "rate":
        given, edited = form.get("rating", [""])[0], 0
        if given not in ("1", "2", "3", "4", "5"):
            raise wrong("rating", "rating is no number from 1 to 5")
        said = Said(rating=int(given), comment=comment, seconds=seconds)
    else:
        outcome = _one_of(form, "outcome", OUTCOMES)
        edited = outcome if outcome < 2 else None
        if form.get("edited", [""])[0]:
            edited = _one_of(form, "edited", ("a", "b"))
        said = Said(outcome=outcome, comment=comment, seconds=seconds)
    # An edit of a long answer is long, and without JavaScript what is no edit comes as well.
    longest = LONGEST + max(map(len, task.completions))
    return _edited(said, text(form, "edit", longest=longest), edited, task)


def read_written(form: Form, person: Person) -> Said:
    """A new prompt with its answer. ApiError 400 for a field that is missing or wrong."""
    language = text(form, "language", longest=80)
    if language is not None and language not in person.languages:
        raise wrong("language", "language is none of those that you declared")
    return Said(
        prompt=text(form, "prompt", needed=True),
        answer=text(form, "answer", needed=True),
        comment=text(form, "comment"),
        language=language,
        seconds=_seconds(form),
    )


def _edited(said: Said, edit: str | None, side: int | None, task: Task) -> Said:
    if edit is None:
        return said
    if side is None:
        raise wrong("edited", "neither is better: say by edited which one was edited, a or b")
    if edit.strip() == task.completions[side].replace("\r\n", "\n").strip():
        return said
    return Said(**{**vars(said), "edit": edit, "edited": side})


def _one_of(form: Form, name: str, known: tuple[str, ...]) -> int:
    value = form.get(name, [""])[0]
    if value not in known:
        raise wrong(name, f"{name} is none of {', '.join(known)}")
    return known.index(value)


def _seconds(form: Form) -> float | None:
    """Time at a task, as the page measured it; nothing where that is no time."""
    try:
        seconds = float(form.get("seconds", [""])[0])
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds < 1e6 else None
