"""The columns of tags beside the rows they are of, and which columns hold texts."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from pomona.errors import PomonaError
from pomona.markers.taxonomy import Marker, Taxonomy
from pomona.records import Records, Where, as_records, is_chat, read

PREFIX = "marker_"
LINE = "marker_line"  # the line of JSONL or CSV that a row was, where we would write another
FORM = "marker_form"  # of the training form: how a row's lists are written, and in which columns
BY, SURE = "_by", "_sure"
_KINDS = {"float": pa.float64(), "integer": pa.int64()}
PROMPTS = ("prompt", "english", "question", "instruction")
COMPLETIONS = ("completion", "answer", "translation", "response", "text")
CHATS = ("messages", "conversations")


def opened(inputs: Where | Records | pa.Table) -> Records:
    """The rows of inputs."""
    records = as_records(inputs) if isinstance(inputs, Records | pa.Table) else read(inputs)
    return records.with_late_types()


def type_of(marker: Marker) -> pa.DataType:
    """The type of a marker's column."""
    return _KINDS.get(marker.kind, pa.string())


def fields(taxonomy: Taxonomy) -> list[pa.Field]:
    """Of each marker the value, what said it, and how sure that is."""
    return [
        field
        for name, one in taxonomy.markers.items()
        for field in (
            pa.field(PREFIX + name, type_of(one)),
            pa.field(PREFIX + name + BY, pa.string()),
            pa.field(PREFIX + name + SURE, pa.float64()),
        )
    ]


def tagged(records: Records) -> list[str]:
    """The markers that the rows have tags of. Raises PomonaError where there are none."""
    names = records.column_names
    found = [
        name.removeprefix(PREFIX)
        for name in names
        if name.startswith(PREFIX) and {name + BY, name + SURE} <= set(names)
    ]
    if not found:
        where = str(records.source.where)
        remedy = "tag the rows first: pomona markers tag"
        raise PomonaError("has no columns of markers", where=where, remedy=remedy)
    return found


def text_column(records: Records, name: str | None, usual: Sequence[str], option: str) -> str:
    """The column that is named, or the first of the usual ones that there is. Raises PomonaError
    where it is missing or holds no text.
    """
    if name is None:
        found = (one for one in usual if one in records.column_names)
        name = next(found, None)
    if name is None:
        where, remedy = str(records.source.where), f"name it: --{option} COLUMN"
        raise PomonaError(f"has no column {', '.join(usual)}", where=where, remedy=remedy)
    kind = records.require(name).schema.field(name).type
    if not holds_text(kind):
        message = f'column "{name}" holds {_shown(kind)}, neither text nor messages'
        remedy = f"name another: --{option} COLUMN"
        raise PomonaError(message, where=str(records.source.where), remedy=remedy)
    return name


def text_columns(
    records: Records, prompt: str | None, completion: str | None
) -> tuple[str | None, str]:
    """The columns of prompts, None where there is none, and of answers: those that are named, else
    the first of the usual ones. Of whole conversations both are one.
    """
    answers = text_column(records, completion, (*COMPLETIONS, *CHATS), "completion")
    kinds = {field.name: field.type for field in records.schema}
    if prompt is None:
        usual = [one for one in PROMPTS if one in kinds and holds_text(kinds[one])]
        if is_chat(kinds[answers]) and (answers in CHATS or not usual):
            return answers, answers
        prompt = next(iter(usual), None)
    return (None if prompt is None else text_column(records, prompt, (), "prompt")), answers


def holds_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds texts or conversations."""
    return pa.types.is_string(kind) or is_chat(kind)


def _shown(kind: pa.DataType) -> str:
    return "lists" if pa.types.is_list(kind) else str(kind)
