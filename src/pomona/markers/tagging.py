"""`tag`: rows with what is known of each, by columns, by measures, by rules or by a model."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from pomona.answers import ModelOrUri, Progress
from pomona.answers.categories import Labelled, label_rows
from pomona.errors import PomonaError
from pomona.markers.chats import texts_of
from pomona.markers.classifier import Embed, Learned, Rows, learn as learned_from
from pomona.markers.columns import (
    BY,
    FORM,
    LINE,
    SURE,
    fields,
    opened,
    text_columns,
    type_of,
)
from pomona.markers.measures import Measured, Texts, buckets, token_counter
from pomona.markers.taxonomy import PAPER, Marker, Taxonomy, read_taxonomy
from pomona.records import Card, Records, Results, TableSource, Where, as_text, inputs_of
from pomona.workspace import stamp

pc: Any = pyarrow.compute  # its stubs lack most functions


def tag(
    inputs: Where | Records,
    out: str | Path,
    *,
    taxonomy: str | Path | Taxonomy = PAPER,
    prompt: str | None = None,
    completion: str | None = None,
    columns: Sequence[str] = (),
    tokenizer: str | None = None,
    model: ModelOrUri | None = None,
    store: str | Path | None = None,
    learn: Sequence[str] = (),
    least_sure: float = 0.8,
    cluster: str | None = None,
    embed: ModelOrUri | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Card:
    """Tag rows with markers: what is known of each text, what said so, and how sure that is.

    Columns of the table come first, then what can be measured, then what is learned from the rows
    that a column says it of, then rules and definitions of the taxonomy. Of each marker the result
    has `marker_NAME`, `marker_NAME_by` (column, measured, classifier, rules or model) and
    `marker_NAME_sure` beside the rows; what is not known is null. `pomona markers strip` gives the
    rows back.

    Args:
        inputs: Rows: files, globs, dataset folders or s3:// addresses.
        out: File of the tagged rows; the card is written beside it.
        taxonomy: YAML file of markers, or "paper": the 13 of Treasure Hunt.
        prompt: Column of what is answered; prompt, english, question or instruction, whichever
            there is first, when left out.
        completion: Column of the texts that are tagged; completion, answer, translation, response,
            text, messages or conversations, whichever there is first, when left out. Of messages
            it is the last answer, and its prompt the last of a user before it.
        columns: MARKER=COLUMN: what says a marker, instead of what the taxonomy names;
            MARKER=-COLUMN where less is better, as of a perplexity.
        tokenizer: Model or tokenizer.json that counts tokens; without one they are not known.
        model: URI of a model that is asked about markers whose values have definitions.
        store: SQLite file that keeps what the model says; OUT.answers.db when left out.
        learn: Markers that a classifier says of the rows of which no column does. The card says how
            often it is right on rows of clusters that it has not seen.
        least_sure: Probability below which the classifier says nothing.
        cluster: Column of what rows are of one source by; their prompts when left out.
        embed: URI of a model whose vectors the classifier learns from; n-grams of characters when
            left out.
        seed: Seed of what is learned from, where that is more than 8,000 rows, and of folds.
        progress: Called with the classifiers that are learned, those that judge it among them, and
            how many they are in all.

    Raises:
        PomonaError: the taxonomy or a table cannot be read, a column is missing or there already,
            a value is outside the taxonomy, or there is no such marker. Nothing was written.
    """
    records = opened(inputs)
    told = taxonomy if isinstance(taxonomy, Taxonomy) else read_taxonomy(taxonomy)
    _refuse_tagged(records, told)
    given = _columns(columns, told)
    prompts, texts = text_columns(records, prompt, completion)
    sources = {name: given.get(name) or one.column for name, one in told.markers.items()}
    for name, column in sources.items():
        if column is not None and (name in given or told.markers[name].measure is None):
            _require(records, name, told.markers[name], column)
    learning = _Learning.checked(records, told, sources, learn, least_sure, cluster, embed, seed)
    read_from = [str(taxonomy)] if isinstance(taxonomy, str | Path) and taxonomy != PAPER else []
    with Results(
        {"--out": out}, inputs=[*records.paths, *read_from], stamps=lambda: stamp(records.paths),
        folders={"--rejects": records.rejects},
    ) as results:  # fmt: skip
        table = records.with_lines(LINE).to_table()
        lines = table[LINE] if LINE in table.column_names else None
        table = table.select(records.column_names)
        asked = _Asked(model, store or (None if model is None else f"{out}.answers.db"))
        counter = None if tokenizer is None else token_counter(tokenizer)
        work = _Work(table, records, told, texts, prompts, counter, asked, learning, progress)
        made = work.tags(sources)
        if lines is not None and lines.null_count < len(lines):
            made = made.append_column(LINE, lines)
        results.write("--out", Records.of(TableSource(made)))
        parts = [str(part.where) for part in records.source.parts()]
        parameters = {
            "taxonomy": told.digest, "prompt": prompts, "completion": texts,
            "columns": list(columns) or None, "tokenizer": tokenizer,
            "model": getattr(model, "identity", model), **learning.parameters(),
        }  # fmt: skip
        n = table.num_rows
        details: dict[str, Any] = {"known": work.counts, "unknown": work.unknown}
        if work.learned:
            details["learned"] = {name: one.told for name, one in work.learned.items()}
            details["classifiers"] = {name: asdict(one) for name, one in work.learned.items()}
        card = Card(
            "markers tag", parameters, inputs_of((path, None) for path in parts), n, n,
            details=details, left_out=records.rejected,
        )  # fmt: skip
        return results.publish(card)


@dataclass(frozen=True)
class _Asked:
    model: ModelOrUri | None
    store: str | Path | None


@dataclass(frozen=True)
class _Learning:
    """What is learned, and how."""

    markers: tuple[str, ...]
    least_sure: float
    cluster: str | None
    embed: ModelOrUri | None
    seed: int

    @classmethod
    def checked(
        cls,
        records: Records,
        taxonomy: Taxonomy,
        sources: Mapping[str, str | None],
        markers: Sequence[str],
        *how: Any,
    ) -> _Learning:
        """Raises PomonaError for a marker of which no column says anything, or that is a number."""
        made = cls(tuple(markers), *how)
        for name in markers:
            if taxonomy.marker(name).kind not in ("values", "text"):
                remedy = "learn markers of values"
                raise PomonaError(f'"{name}" has no values', where="--learn", remedy=remedy)
            column = sources[name]
            if column is None or column not in records.column_names:
                remedy = f"name one: --columns {name}=COLUMN"
                raise PomonaError(f'no column says "{name}"', where="--learn", remedy=remedy)
        if not 0 < made.least_sure <= 1:
            remedy = "give more than 0, up to 1"
            message = f"{made.least_sure} is no probability"
            raise PomonaError(message, where="--least-sure", remedy=remedy)
        records.require(*([] if made.cluster is None else [made.cluster]))
        return made

    def parameters(self) -> dict[str, Any]:
        """Of a card."""
        if not self.markers:
            return {}
        embed = getattr(self.embed, "identity", self.embed)
        return {"learn": list(self.markers), "least_sure": self.least_sure, "cluster": self.cluster,
                "embed": embed, "seed": self.seed}  # fmt: skip

    def embedder(self) -> Embed | None:
        """What makes vectors of texts."""
        if self.embed is None:
            return None
        from pomona.models import load

        model = load(self.embed, need=("embed",)) if isinstance(self.embed, str) else self.embed
        return model.embed


@dataclass
class _Tag:
    """A marker's values, what said each, and how sure that is."""

    values: pa.Array
    by: pa.Array
    sure: pa.Array

    @classmethod
    def empty(cls, rows: int, kind: pa.DataType) -> _Tag:
        """Nothing is known."""
        return cls(pa.nulls(rows, kind), pa.nulls(rows, pa.string()), pa.nulls(rows, pa.float64()))

    def fill(self, values: pa.Array, sure: pa.Array, by: str | pa.Array) -> None:
        """Take what is known now of rows of which nothing was known."""
        new = pc.and_(self.values.is_null(), values.is_valid())
        self.by = pc.if_else(new, by, self.by)
        self.sure = pc.if_else(new, sure, self.sure)
        self.values = pc.if_else(new, values, self.values)


@dataclass
class _Work:
    """The rows, and what becomes of them. `counts` and `unknown` are filled by `tags`."""

    table: pa.Table
    records: Records
    taxonomy: Taxonomy
    texts: str
    prompts: str | None
    counter: Any
    asked: _Asked
    learning: _Learning
    progress: Progress | None = None
    learned: dict[str, Learned] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)
    found: dict[str, _Tag] = field(default_factory=dict)

    @cached_property
    def answers(self) -> pa.Array:
        """The texts that are tagged."""
        return texts_of(self.table[self.texts].combine_chunks(), "answer")

    @cached_property
    def questions(self) -> pa.Array | None:
        """What they answer."""
        if self.prompts is None:
            return None
        column, alone = self.table[self.prompts].combine_chunks(), self.prompts != self.texts
        return texts_of(column, "prompt", alone=alone)

    def tags(self, sources: Mapping[str, str | None]) -> pa.Table:
        """The rows with their tags."""
        for name in sources:
            self._one(name, sources)
        arrays, kinds = [], fields(self.taxonomy)
        for name in self.taxonomy.markers:
            tag = self.found[name]
            self.counts[name] = len(tag.values) - tag.values.null_count
            arrays += [tag.values, tag.by, tag.sure]
        made = zip(arrays, kinds, strict=True)
        every = [array.cast(kind.type) for array, kind in made]
        schema = pa.schema([*self.table.schema, *kinds])
        return pa.table([*self.table.columns, *every], schema=schema)

    def _one(self, name: str, sources: Mapping[str, str | None]) -> _Tag:
        if name in self.found:
            return self.found[name]
        marker, n = self.taxonomy.markers[name], self.table.num_rows
        tag = self.found[name] = _Tag.empty(n, type_of(marker))
        column = sources[name]
        if column is not None and (found := _turned(self.table.column_names, column)):
            values = self._said(name, marker, *found)
            tag.fill(values, pa.nulls(n, pa.float64()), "column")
        if marker.of is not None:
            self._bucket(name, marker, tag, sources)
        if marker.measure is not None and tag.values.null_count:
            self._measure(name, marker, tag, sources)
        if name in self.learning.markers and tag.values.null_count:
            self._learn(name, tag)
        if marker.defined and tag.values.null_count:
            self._define(name, marker, tag)
        if tag.values.null_count == n and name not in self.unknown:
            none = f"nothing says it: --columns {name}=COLUMN"
            measured = f"none of the texts has any by {marker.measure}"
            self.unknown[name] = measured if marker.measure else none
        return tag

    def _said(self, name: str, marker: Marker, column: str, sign: int) -> pa.Array:
        """What a column says. Raises PomonaError with the row of a value outside the taxonomy."""
        cells = self.table[column].combine_chunks()
        texts = as_text(cells)
        coded = texts.dictionary_encode()
        own = []
        for text in coded.dictionary.to_pylist():
            value: Any = None if text is None or not text.strip() else text.strip()
            if value is not None and marker.kind in ("integer", "float"):
                value = _number(value, sign)
            if value is not None and (wrong := marker.wrong(value)) is not None:
                place = self.records.row_name(pc.index(texts, text).as_py())
                remedy = f"mend the row, or name another column: --columns {name}=COLUMN"
                message = f'"{name}" from column "{column}" {wrong}'
                raise PomonaError(message, where=place, remedy=remedy)
            own.append(int(value) if marker.kind == "integer" and value is not None else value)
        return pa.array(own, type_of(marker)).take(coded.indices)

    def _measure(
        self, name: str, marker: Marker, tag: _Tag, sources: Mapping[str, str | None]
    ) -> None:
        texts, prompts = self.answers, self.questions
        measure = str(marker.measure)
        open_ = tag.values.is_null()
        rows = pc.indices_nonzero(open_)
        told = Texts(
            texts.take(rows), None if prompts is None else prompts.take(rows), self.counter,
            lambda: self._languages(texts, rows, sources),
        )  # fmt: skip
        if lacks := told.lacks(measure):
            self.unknown[name] = lacks
            return
        measured = told.measured(measure)
        values = measured.values.cast(type_of(marker))
        if marker.values:  # what the measure tells apart and the taxonomy does not is not known
            known = pc.is_in(values, pa.array(list(marker.values)))
            values = pc.if_else(known, values, None)
        tag.fill(_spread(values, rows, open_), _spread(measured.sure, rows, open_), "measured")

    def _languages(
        self, texts: pa.Array, rows: pa.Array, sources: Mapping[str, str | None]
    ) -> Measured:
        """The language of some rows: the marker's that says it, else a column's, else measured."""
        for name, one in self.taxonomy.markers.items():
            if name == "lang" or one.measure == "language":
                tag = self._one(name, sources)
                return Measured(as_text(tag.values).take(rows), tag.sure.take(rows))
        if "lang" in self.table.column_names:
            langs = as_text(self.table["lang"].combine_chunks()).take(rows)
            return Measured(langs, pa.nulls(len(langs), pa.float64()))
        return Texts(texts.take(rows), None, None).measured("language")

    def _learn(self, name: str, tag: _Tag) -> None:
        """Say of rows what is learned from those that a column says it of."""
        texts, prompts = self.answers, self.questions
        named = self.learning.cluster
        asked = texts if prompts is None else prompts
        own = asked if named is None else as_text(self.table[named].combine_chunks())
        clusters = pc.coalesce(own, asked, texts, "").to_pylist()
        rows = Rows(texts.to_pylist(), None if prompts is None else asked.to_pylist(), clusters)
        said = pc.if_else(pc.equal(tag.by, "column"), tag.values, None).to_pylist()
        found = learned_from(
            rows, said, least_sure=self.learning.least_sure, seed=self.learning.seed,
            embed=self.learning.embedder(), progress=partial(self._report, name),
        )  # fmt: skip
        if isinstance(found, str):
            self.unknown[name] = found
            return
        self.learned[name], values, sure = found
        tag.fill(values, sure, "classifier")

    def _report(self, name: str, done: int, total: int) -> None:
        if self.progress is not None:
            names = list(dict.fromkeys(self.learning.markers))
            self.progress(names.index(name) * total + done, len(names) * total)

    def _bucket(
        self, name: str, marker: Marker, tag: _Tag, sources: Mapping[str, str | None]
    ) -> None:
        number = self._one(str(marker.of), sources)
        groups = None if marker.within is None else self._one(marker.within, sources).values
        values = buckets(number.values, list(marker.values), marker.edges, groups)
        # A bucket is as sure as its number.
        tag.fill(values, number.sure, number.by)
        if number.values.null_count == len(number.values):
            self.unknown[name] = self.unknown.get(str(marker.of), f"no {marker.of} is known")

    def _define(self, name: str, marker: Marker, tag: _Tag) -> None:
        rules = any(one.rules for one in marker.values.values())
        if self.asked.model is None and not rules:
            self.unknown.setdefault(name, "only a model can say it: --model URI")
            return
        open_ = tag.values.is_null()
        rows = pc.indices_nonzero(open_)
        place = self.table.column_names.index(self.texts)
        table = self.table.set_column(place, self.texts, self.answers)
        where, origin = self.records.source.where, (self.records, rows.to_numpy())
        part = Records.of(TableSource(table.take(rows), where, origin))
        with tempfile.TemporaryDirectory(prefix="pomona-") as folder:
            try:
                made = label_rows(
                    part, Path(folder) / "rows.parquet", marker.definitions(name),
                    column=self.texts, model=self.asked.model, operation="markers tag",
                    **({} if self.asked.model is None else {"store": self.asked.store}),
                )  # fmt: skip
            except PomonaError as error:
                if "no rule fits any" not in error.message:
                    raise
                self.unknown[name] = "no rule fits any of the rows"
                return
        assert isinstance(made, Labelled)
        columns = [made.table[name + end].combine_chunks() for end in ("", BY, SURE)]
        values, by, sure = (_spread(column, rows, open_) for column in columns)
        tag.fill(values, sure, by)


def _spread(values: pa.Array, rows: pa.Array, open_: pa.Array) -> pa.Array:
    """Values of some rows among all rows."""
    if len(rows) == len(open_):
        return values
    place = np.full(len(open_), -1, np.int64)
    place[rows.to_numpy()] = np.arange(len(rows))
    return values.take(pa.array(place, mask=place < 0))


def _number(text: str, sign: int) -> float | str | None:
    try:
        number = float(text)
    except ValueError:
        return text
    return None if math.isnan(number) else sign * number


def _turned(columns: Sequence[str], column: str) -> tuple[str, int] | None:
    """The column, and -1 where it is written `-COLUMN`: the less, the better."""
    if column in columns:
        return column, 1
    name = column.removeprefix("-")
    return (name, -1) if name in columns else None


def _require(records: Records, name: str, marker: Marker, column: str) -> None:
    """Raise PomonaError where there is no such column, or what is no number is turned."""
    found = _turned(records.column_names, column)
    if found is None:
        records.require(column.removeprefix("-"))
    elif found[1] < 0 and marker.kind not in ("float", "integer"):
        message = f'"{name}" is no number, and "{column}" turns numbers around'
        raise PomonaError(message, where="--columns", remedy=f"write {name}={found[0]}")


def _columns(given: Sequence[str], taxonomy: Taxonomy) -> dict[str, str]:
    """Columns by the marker that they say."""
    found: dict[str, str] = {}
    for one in given:
        name, is_, column = one.partition("=")
        if not (name and is_ and column):
            remedy = "write MARKER=COLUMN"
            raise PomonaError(f'"{one}" names no column', where="--columns", remedy=remedy)
        taxonomy.marker(name)
        if name in found:
            remedy = "name one column for each marker"
            raise PomonaError(f'"{name}" is named twice', where="--columns", remedy=remedy)
        found[name] = column
    return found


def _refuse_tagged(records: Records, taxonomy: Taxonomy) -> None:
    there = [name for name in [*(one.name for one in fields(taxonomy)), FORM, LINE] if name in
             records.column_names]  # fmt: skip
    if there:
        where = str(records.source.where)
        remedy = "take the markers off first: pomona markers strip"
        raise PomonaError(f'there is a column "{there[0]}" already', where=where, remedy=remedy)
