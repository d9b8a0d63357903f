"""The training form of tagged rows: markers behind prompts and before answers; and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from pomona.documents import parse_json
from pomona.errors import PomonaError, RowError
from pomona.files import json_text
from pomona.markers.attached import (
    bare_answers,
    bare_prompts,
    listed_answers,
    listed_prompts,
    replaced,
)
from pomona.markers.chats import Side, texts_of
from pomona.markers.columns import (
    BY,
    FORM,
    LINE,
    PREFIX,
    PROMPTS,
    SURE,
    holds_text,
    opened,
    tagged,
    text_column,
    text_columns,
    type_of,
)
from pomona.markers.lists import (
    CLOSE,
    END,
    OPEN,
    Form,
    Offered,
    joining,
    places_in,
)
from pomona.markers.taxonomy import PAPER, Taxonomy, read_taxonomy
from pomona.markers.trained import trained_of
from pomona.places import address
from pomona.records import (
    Card,
    Records,
    Results,
    TableSource,
    Where,
    as_text,
    format_of,
    inputs_of,
)
from pomona.workspace import stamp

pc: Any = pyarrow.compute  # its stubs lack most functions


_FORMS: tuple[Form, ...] = get_args(Offered)


Batch = TypeVar("Batch", pa.Table, Mapping[str, Sequence[Any]])


def training_rows(
    rows: Batch,
    taxonomy: Taxonomy,
    *,
    prompt: str = "prompt",
    completion: str = "completion",
    id: str | None = None,
    form: Form = "verbose",
    dataset_dropout: float = 0.5,
    sample_dropout: float = 0.5,
    answers: bool = True,
    seed: int = 0,
    epoch: int = 0,
) -> Batch:
    """Tagged rows in the training form: a pure function, whose result for a row depends on that
    row, the seed and the epoch alone, not on the others or their order.

    Every answer gets the list of all that is known before it. A prompt gets no list with
    probability `dataset_dropout`, else one without each marker with probability `sample_dropout`.
    What is drawn depends on the row's `id`, or where that is None on its texts. The column
    `marker_form` says what `strip` needs to know.

    Args:
        rows: A table, or a mapping from columns to lists, which comes back as one: what
            `datasets.Dataset.map(…, batched=True)` and `set_transform` give and take.
        taxonomy: The markers, in the order of lists.
        prompt: Column of prompts.
        completion: Column of answers.
        id: Column that names rows.
        form: verbose or compact.
        dataset_dropout: Share of prompts without any list.
        sample_dropout: Share of markers that are left out of each other list.
        answers: Whether answers begin with their list. Without, a model is told, and infers
            nothing; that is how MeCo trains (see `pomona.train.cooldown`).
        seed: Seed.
        epoch: Number of the pass: each has draws of its own.

    Raises:
        PomonaError: a value is outside the taxonomy, a column is missing, or a text is null.
    """
    keys = (prompt, completion) if id is None else (id,)
    columns = [*dict.fromkeys((prompt, completion, *keys))]
    table = _table(rows, [*columns, *(PREFIX + name for name in taxonomy.listed), FORM])
    _require(table, taxonomy, prompt, completion, columns)
    parts = {name: _parts(table, taxonomy, name, form) for name in taxonomy.listed}
    draws = _Draws.of(table, keys, seed, epoch)
    behind = draws.shown(parts, dataset_dropout, sample_dropout, taxonomy, form)
    alone = prompt != completion
    done = {prompt: listed_prompts(table[prompt].combine_chunks(), behind, form, alone)}
    says: dict[str, Any] = {"form": form, "prompt": prompt, "completion": completion}
    if answers:
        texts = table[completion].combine_chunks() if alone else done[prompt]
        done[completion] = listed_answers(texts, _lists(parts, taxonomy, form), form, alone)
    else:
        says["answers"] = False
    done[FORM] = pa.array([json.dumps(says)] * table.num_rows, pa.string())
    told: Any = rows
    if not isinstance(rows, pa.Table):
        return {**told, **{name: array.to_pylist() for name, array in done.items()}}  # pyright: ignore[reportReturnType]
    for name, array in done.items():
        place = table.schema.get_field_index(name)
        named = (name, array)
        table = table.append_column(*named) if place < 0 else table.set_column(place, *named)
    return table


def _table(rows: Any, names: Sequence[str]) -> pa.Table:
    """A table as it is, of a mapping these columns."""
    if isinstance(rows, pa.Table):
        return rows
    return pa.table({name: _array(name, rows[name]) for name in names if name in rows})


def _array(name: str, values: Sequence[Any]) -> pa.Array:
    try:
        array = pa.array(values)
        return array.cast(pa.string()) if pa.types.is_null(array.type) else array
    except pa.ArrowException as error:
        message = f'"{name}" holds values of several types'
        remedy = "give one type, and None where nothing is known"
        raise PomonaError(message, remedy=remedy) from error


def _require(
    table: pa.Table, taxonomy: Taxonomy, prompt: str, completion: str, columns: Sequence[str]
) -> None:
    """Raise PomonaError for a column that is missing, a text that is null, and lists that are there
    already.
    """
    if FORM in table.column_names:
        remedy = "give the rows as they were tagged: pomona markers strip"
        raise PomonaError("the rows are in the training form already", remedy=remedy)
    for column in columns:
        if column not in table.column_names:
            remedy = "name one that there is"
            raise PomonaError(f'the rows have no column "{column}"', remedy=remedy)
    for name in taxonomy.listed:
        if PREFIX + name not in table.column_names:
            remedy = "tag the rows with this taxonomy: pomona markers tag"
            raise PomonaError(f'the rows have no column "{PREFIX}{name}"', remedy=remedy)
    sides: tuple[tuple[Side, str], ...] = (("prompt", prompt), ("answer", completion))
    for side, column in sides:
        kind = table[column].type
        if not holds_text(kind):
            remedy = "name a column of texts or of messages"
            raise PomonaError(f'"{column}" holds {kind}, not text', remedy=remedy)
        alone = side == "prompt" and prompt != completion
        texts = texts_of(table[column].combine_chunks(), side, alone=alone)
        if texts.null_count:
            row = pc.index(texts.is_null(), True).as_py()
            wrong = "is null" if pa.types.is_string(kind) else f"has no {side}"
            remedy = "leave out rows without a text: --on-error drop, or reject"
            if not pa.types.is_string(kind):
                remedy = "leave out conversations without a text of each side"
            raise RowError(f'"{column}" {wrong}', row, remedy=remedy)


def apply(
    inputs: Where | Records,
    out: str | Path,
    *,
    taxonomy: str | Path | Taxonomy = PAPER,
    prompt: str | None = None,
    completion: str | None = None,
    id: str | None = None,
    form: Offered = "verbose",
    dataset_dropout: float = 0.5,
    sample_dropout: float = 0.5,
    seed: int = 0,
) -> Card:
    """Write tagged rows as they are trained on: markers behind each prompt, and before each answer.

    The columns of prompts and answers get the lists, the others stay; the loss is to cover the
    whole answer, with its list. What a row's prompt shows depends on the row and the seed alone.
    `pomona markers strip` gives the rows back. OUT.markers.json says what a model that learns from
    the rows was trained with: put it into its checkpoint as markers.json.

    Args:
        inputs: Rows that `pomona markers tag` wrote.
        out: File of the rows in the training form; the card is written beside it.
        taxonomy: YAML file of markers, or "paper": of these the lists are made, in this order.
        prompt: Column of prompts; the first of prompt, english, question and instruction when left
            out.
        completion: Column of answers; the first of completion, answer, translation, response and
            text when left out. Lists of messages have both: the last answer, and the last of a
            user before it.
        id: Column that names rows, by which it is drawn what a prompt shows; "id" where there is
            one, else the texts themselves.
        form: verbose, as in the paper, or compact, a few characters.
        dataset_dropout: Share of prompts without any list.
        sample_dropout: Share of markers that are left out of each other list.
        seed: Seed.

    Raises:
        PomonaError: the rows have no tags, a column is missing, a value is outside the taxonomy, a
            text is null, or an option is wrong. Nothing was written.
    """
    records = opened(inputs)
    told = taxonomy if isinstance(taxonomy, Taxonomy) else read_taxonomy(taxonomy)
    for option, value in (("dataset", dataset_dropout), ("sample", sample_dropout)):
        if not 0 <= value <= 1:
            remedy = "give 0 to 1"
            raise PomonaError(f"{value} is no share", where=f"--{option}-dropout", remedy=remedy)
    if form not in _FORMS:
        remedy = f"choose one of: {', '.join(_FORMS)}"
        raise PomonaError(f'"{form}" is no form of lists', where="--form", remedy=remedy)
    if FORM in records.column_names:
        remedy = "take the markers off first: pomona markers strip"
        raise PomonaError("is in the training form already", where=str(records.source.where),
                          remedy=remedy)  # fmt: skip
    there = tagged(records)
    missing = [name for name in told.listed if name not in there]
    if missing:
        where, remedy = str(records.source.where), "tag the rows with this taxonomy"
        raise PomonaError(f'has no column "{PREFIX}{missing[0]}"', where=where, remedy=remedy)
    prompt, completion = text_columns(records, prompt, completion)
    prompt = prompt or text_column(records, prompt, PROMPTS, "prompt")
    records = records.complete(prompt, completion)
    if id is None and "id" in records.column_names:
        id = "id"
    records.require(*([] if id is None else [id]))
    paths = [str(taxonomy)] if isinstance(taxonomy, str | Path) and taxonomy != PAPER else []
    options: dict[str, Any] = {
        "prompt": prompt, "completion": completion, "id": id, "form": form,
        "dataset_dropout": dataset_dropout, "sample_dropout": sample_dropout, "seed": seed,
    }  # fmt: skip
    parameters = {"taxonomy": told.digest, **options}
    return _rewritten(
        records, out, "markers apply", parameters,
        lambda rows: training_rows(rows, told, **options), paths,
        lambda rows: json_text(trained_of(rows, told, form).document()),
    )  # fmt: skip


def strip(inputs: Where | Records, out: str | Path) -> Card:
    """Take markers off rows again: their columns, and the lists in prompts and answers.

    The rows are as they were before `pomona markers tag`, to the byte.

    Args:
        inputs: Rows that `pomona markers tag` or `apply` wrote.
        out: File of the rows; the card is written beside it.

    Raises:
        PomonaError: the rows have no tags, or are not what `apply` wrote. Nothing was written.
    """
    records = opened(inputs)
    names = tagged(records)

    def bare(rows: pa.Table) -> pa.Table:
        done = bare_rows(rows, names)
        if LINE not in rows.column_names or format_of(address(out))[0] == "parquet":
            return done
        return done.append_column(LINE, rows[LINE])

    return _rewritten(records, out, "markers strip", {}, bare, lines=LINE)


def bare_rows(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """Rows without the tags of these markers, and without lists in their texts."""
    if FORM in table.column_names:
        coded = table[FORM].combine_chunks().dictionary_encode()
        for at, told in enumerate(coded.dictionary.to_pylist()):
            rows = pc.equal(coded.indices, at).fill_null(False)
            table = _bare(table, told, rows)
    beside = [PREFIX + name + end for name in names for end in ("", BY, SURE)]
    return table.drop_columns([one for one in [*beside, FORM, LINE] if one in table.column_names])


def _bare(table: pa.Table, told: str, rows: pa.Array) -> pa.Table:
    """The texts of some rows without their lists. Raises PomonaError where there are none."""
    wrong, remedy = f'"{FORM}" is not what pomona markers apply wrote', "apply the markers again"
    said = parse_json(told.encode(), "the table", wrong=wrong, remedy=remedy)
    form, columns = said.get("form"), [said.get("prompt"), said.get("completion")]
    if form not in get_args(Form) or not all(name in table.column_names for name in columns):
        raise PomonaError(wrong, remedy=remedy)
    texts, listed = (
        texts_of(table[columns[1]].combine_chunks(), "answer"),
        said.get("answers", True),
    )
    alone = columns[0] != columns[1]
    there = pc.match_substring(texts, CLOSE if form == "verbose" else END)
    if form == "verbose":
        there = pc.and_(there, pc.starts_with(texts, OPEN))
    there = there.fill_null(False)
    if listed and (row := pc.index(pc.and_not(rows, there), True).as_py()) >= 0:
        message = f'"{columns[1]}" does not begin with a list of markers'
        raise RowError(message, row, remedy=remedy)
    undo: list[Callable[[pa.Array], pa.Array]] = [
        lambda texts: bare_prompts(texts, form, alone),
        lambda texts: bare_answers(texts, form, alone),
    ]
    for column, one in zip(columns, undo if listed else undo[:1], strict=False):
        texts = table[column].combine_chunks()
        done = replaced(texts, rows, one(texts.filter(rows)))
        table = table.set_column(table.schema.get_field_index(column), column, done)
    return table


def _rewritten(
    records: Records,
    out: str | Path,
    operation: str,
    parameters: Mapping[str, Any],
    made: Callable[[pa.Table], pa.Table],
    more: Sequence[str] = (),
    beside: Callable[[pa.Table], str] | None = None,
    lines: str | None = None,
) -> Card:
    markers = None if beside is None else f"{out}.markers.json"
    with Results(
        {"--out": out, "the markers": markers}, inputs=[*records.paths, *more],
        stamps=lambda: stamp(records.paths), folders={"--rejects": records.rejects},
    ) as results:  # fmt: skip
        try:
            table = made(records.to_table())
        except RowError as error:
            where = records.row_name(error.row)
            raise PomonaError(error.message, where=where, remedy=error.remedy) from error
        except PomonaError as error:
            where = ", ".join(str(one) for one in (records.source.where, error.where) if one)
            raise PomonaError(error.message, where=where, remedy=error.remedy) from error
        results.write("--out", Records.of(TableSource(table)), lines)
        if beside is not None:
            results.partial("the markers").write_text(beside(table), encoding="utf-8")
        inputs = inputs_of((str(part.where), None) for part in records.source.parts())
        n = table.num_rows
        return results.publish(
            Card(operation, dict(parameters), inputs, n, n, left_out=records.rejected)
        )


def _parts(table: pa.Table, taxonomy: Taxonomy, name: str, form: Form) -> pa.Array:
    """A marker's part of each row's list, null where it is not known."""
    marker, place = taxonomy.markers[name], places_in(taxonomy, form)
    tags = table[PREFIX + name].combine_chunks()
    try:
        coded = tags.cast(type_of(marker)).dictionary_encode()
    except pa.ArrowException as error:
        message = f'column "{PREFIX}{name}" holds {tags.type}, and the marker is {marker.kind}'
        raise PomonaError(message, remedy="tag the rows with this taxonomy") from error
    told: list[str | None] = []
    for value in coded.dictionary.to_pylist():
        if value is None:
            told.append(None)
            continue
        if (wrong := marker.wrong(value)) is not None:
            row = pc.index(tags, pa.scalar(value).cast(tags.type)).as_py()
            remedy = "tag the rows with this taxonomy"
            raise RowError(f'marker "{name}" {wrong}', row, remedy=remedy)
        told.append(place(name, value))
    return pa.array(told, pa.string()).take(coded.indices)


def _lists(parts: Mapping[str, pa.Array], taxonomy: Taxonomy, form: Form) -> pa.Array:
    """The list of each row."""
    if form == "verbose":
        n = len(next(iter(parts.values())))
        ends = [pa.array([mark] * n, pa.string()) for mark in (OPEN, CLOSE)]
        columns = [ends[0], *parts.values(), ends[1]]
        return pc.binary_join_element_wise(*columns, " ", null_handling="skip")
    place, (before, between, trimmed) = places_in(taxonomy, form), joining(form)
    columns = [part.fill_null(place(name, None)) for name, part in parts.items()]
    joined = pc.binary_join_element_wise(*columns, between, null_handling="skip")
    joined = pc.utf8_rtrim(joined, characters=trimmed) if trimmed else joined
    return pc.binary_join_element_wise(before, joined, "") if before else joined


class _Draws:
    """Random numbers of rows, each of what names the row, the seed and what is drawn alone."""

    def __init__(self, keys: NDArray[np.uint64]) -> None:
        self._keys = keys

    @classmethod
    def of(cls, table: pa.Table, columns: Sequence[str], seed: int, epoch: int) -> _Draws:
        """Of rows that these columns name."""
        several = [as_text(table[name].combine_chunks()).to_pylist() for name in columns]
        salt, person = (one.to_bytes(16, "little", signed=True) for one in (seed, epoch))
        keys = [
            hashlib.blake2b(
                json.dumps(key).encode(), digest_size=8, salt=salt, person=person
            ).digest()
            for key in zip(*several, strict=True)
        ]
        return cls(np.frombuffer(b"".join(keys), np.uint64))

    def shown(
        self,
        parts: Mapping[str, pa.Array],
        dataset_dropout: float,
        sample_dropout: float,
        taxonomy: Taxonomy,
        form: Form,
    ) -> pa.Array:
        """The list behind each prompt, null where there is none."""
        kept = {name: pa.array(self.uniform(name) >= sample_dropout) for name in parts}
        partial = {name: pc.if_else(kept[name], part, None) for name, part in parts.items()}
        known = [one.is_valid().to_numpy(zero_copy_only=False) for one in partial.values()]
        listed = (self.uniform("") >= dataset_dropout) & np.any(known, axis=0)
        return pc.if_else(pa.array(listed), _lists(partial, taxonomy, form), None)

    def uniform(self, what: str) -> NDArray[np.float64]:
        """One number from 0 to 1 of each row."""
        digest = hashlib.blake2b(what.encode(), digest_size=8).digest()
        mixed = self._keys ^ np.frombuffer(digest, np.uint64)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)  # splitmix64
        return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2**53
