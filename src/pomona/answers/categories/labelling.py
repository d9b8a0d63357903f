"""`label_rows`: the rows of a table with the categories that rules or a model put them in."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import pyarrow as pa

from pomona.answers.batch import AskingOptions, ModelOrUri, answer_rows
from pomona.answers.budget import Account, BudgetSpent, draw, forecaster
from pomona.answers.categories.definitions import NONE, TOGETHER, Definitions
from pomona.answers.categories.reading import Question, categories_in, questions, read_template
from pomona.answers.categories.rules import fitting
from pomona.answers.pool import Answer
from pomona.errors import PomonaError, ResourceError
from pomona.models import Model, ModelError, Request, Spent
from pomona.records import (
    Card,
    Records,
    Results,
    RowName,
    TableSource,
    Where,
    as_records,
    check_types,
    format_of,
    inputs_of,
    read,
)
from pomona.workspace import stamp

BY = ("_by", "_sure", "_error")  # what stands beside a category, after the name of its column
_TOKENS = 16
_NO_TEXT = "there is no text"
_NO_RULE = "no rule fits"


@dataclass(frozen=True, eq=False)
class Labelled:
    """Rows with their categories, and the card of the file. `failed` are questions that a model or
    a budget left open, which the next run asks again.
    """

    table: pa.Table
    card: Card
    failed: int = 0


@dataclass(frozen=True)
class _Asker:
    """Answers questions about texts by the option that most of `samples` draws name; see
    `pomona.answers.Answerer`. The first draw is greedy, the others are at `temperature`.
    """

    operation: str
    options: tuple[str, ...]
    samples: int
    temperature: float
    free: bool
    about: Mapping[str, Any]

    def parameters(self, models: Sequence[Model], judge: Model | None) -> dict[str, Any]:
        """See the protocol."""
        how = "held" if self._held(models[0], Request()).options else "read"
        drawn = {"samples": self.samples, "temperature": self.temperature}
        return {**self.about, "model": models[0].identity, "replies": how, **drawn}

    async def answer(
        self, request: Request, models: Sequence[Model], judge: Model | None, account: Account
    ) -> Answer:
        """See the protocol. A ModelError of status 422 where a server that is to hold the model to
        the options does not.
        """
        plan = [(at, self.temperature if at else 0.0) for at in range(self.samples)]
        try:
            replies, met = await draw(models[0], self._held(models[0], request), plan, account)
        except ModelError as error:
            if error.code != "no_option":
                raise
            remedy = "let it speak freely: --free"
            message = "is not held to the categories"
            raise ModelError(message, status=422, where=error.where, remedy=remedy) from error
        if not replies:
            raise BudgetSpent(met or "samples")
        spent = sum((reply.spent for reply in replies), Spent())
        said = tuple(reply for reply in replies if reply.answered) or tuple(replies)
        return Answer(said[0].text, 0, said, (), spent, met or "complete", self.operation, {})

    def forecast(self, request: Request, models: Sequence[Model], judge: Model | None) -> Spent:
        """See the protocol."""
        return forecaster(models[0], self._held(models[0], request))(self.samples)

    def _held(self, model: Model, request: Request) -> Request:
        held = not self.free and "options" in model.abilities
        return replace(request, options=self.options if held else ())


@dataclass
class _Row:
    """What is known of a row: the categories it is in and not in, by what, and how sure; why it is
    in none.
    """

    text: str | None
    yes: list[str] = field(default_factory=list)
    no: list[str] = field(default_factory=list)
    by: list[str] = field(default_factory=list)
    sure: float | None = None
    error: str | None = None

    def note(self, by: str, sure: float | None) -> None:
        """Note what said it; the least sure of several counts."""
        if by not in self.by:
            self.by.append(by)
        if sure is not None:
            self.sure = sure if self.sure is None else min(self.sure, sure)


def label_rows(
    inputs: Where | Records,
    out: str | Path,
    definitions: Definitions,
    *,
    column: str = "text",
    model: ModelOrUri | None = None,
    template: Path | str | None = None,
    samples: int = 5,
    temperature: float = 1.0,
    free: bool = False,
    seed: int = 0,
    operation: str = "categories",
    **asking: Unpack[AskingOptions],
) -> Labelled | Card:
    """Put each row's text in categories, and write the rows with what they are in.

    Rules come first. A model is asked about rows of which no rule fits; where rows may be in
    several categories, about each category that has no rules. The column has the definitions'
    name. Beside it `NAME_by` says rules or model, `NAME_sure` how sure (of rules one by the number
    of categories that fit; of a model the share of its draws, None of a single one), and
    `NAME_error` why there is no category. Where rows may be in several, `NAME_is_CATEGORY` has yes
    or no.
    A dry run gives the card of `answer_rows`, which says what it would cost at most.

    Args:
        inputs: Rows, as `pomona.records.read` takes them.
        out: File of the rows with their categories; the card is written beside it.
        definitions: The categories.
        column: Column of texts.
        model: URI of a model that is asked.
        template: What it is asked, with {categories} and {text}, or the path of such a file.
        samples: Draws of each answer, of which most count.
        temperature: Of all draws but the first, which is greedy.
        free: Do not hold the model to the categories; read what it says.
        seed: Seed.
        operation: The first word of the card's signature.
        asking: How the model is asked; see `answer_rows`.

    Raises:
        PomonaError: a column is missing or there already, there are neither rules nor a model, or
            an option is wrong. Nothing was asked.
        ResourceError: the last 5 requests all failed, or none of the rows got a category. The
            store keeps what was said.
    """
    records = as_records(inputs) if isinstance(inputs, Records | pa.Table) else read(inputs)
    _check(records, definitions, column, model, samples, dry_run=asking.get("dry_run", False))
    own = read_template(template) if isinstance(template, Path) else template
    table = records.to_table()
    about = {"categories": definitions.name, "definitions": definitions.digest, "column": column}
    if own is not None:
        about["template"] = hashlib.sha256(own.encode()).hexdigest()[:12]
    schema = pa.schema([*table.schema, *_columns(definitions)])
    check_types(schema, format_of(str(out))[0], str(out))
    rows = _by_rules(records, table, definitions, column)
    asked = {} if model is None else questions(definitions, _asked_names(definitions), own)
    wanted = list(_questions(rows, asked, definitions))
    if model is None or not (wanted or asking.get("dry_run")):
        made = _labels(table, rows, definitions)
        return _written(made, Card(operation, {**about, "seed": seed}, (), 0, 0), records, out)
    options = next(iter(asked.values())).options
    answerer = _Asker(operation, options, samples, temperature, free, about)
    found: list[pa.Table] = []

    def finish(answers: Records) -> pa.Table:
        _take(answers, rows, options)
        found.append(_labels(table, rows, definitions))
        return found[0]

    def amend(card: Card) -> Card:
        sizes = {"rows_in": len(rows), "rows_out": len(rows) if found else 0}
        known = {key: value for key, value in card.parameters.items() if key != "prompt"}
        details = {**card.details, "questions": card.rows_in}
        return replace(card, **sizes, parameters=known, details=details)

    where = str(records.source.where)
    card = answer_rows(
        Records.of(TableSource(pa.Table.from_pylist(wanted, _ASKED), where)), out, answerer,
        model=model, prompt="{asked}", max_tokens=_TOKENS, seed=seed, finish=finish, amend=amend,
        **asking,
    )  # fmt: skip
    if asking.get("dry_run"):
        return card
    details = card.details
    met = sum(count for by, count in details["stopped_by"].items() if by in details["budget"])
    return Labelled(found[0], card, details["failed"] + met)


_ASKED = pa.schema([("row", pa.int64()), ("category", pa.string()), ("asked", pa.string())])


def _check(
    records: Records,
    definitions: Definitions,
    column: str,
    model: ModelOrUri | None,
    samples: int,
    *,
    dry_run: bool,
) -> None:
    rules = [rule for one in definitions.categories.values() for rule in one.rules]
    records.require(column, *(name for rule in rules for name in rule.columns))
    kind = records.schema.field(column).type
    where = str(records.source.where)
    if not pa.types.is_string(kind):
        message = f'column "{column}" holds {kind}, not text'
        raise PomonaError(message, where=where, remedy="name another: --column NAME")
    for name in (one.name for one in _columns(definitions)):
        if name in records.column_names:
            message = f'there is a column "{name}" already'
            raise PomonaError(message, where=where, remedy="give the categories another name")
    if samples < 1:
        raise PomonaError(f"{samples} are too few", where="samples", remedy="give 1 or more")
    if model is None and dry_run:
        raise PomonaError(
            "nobody is asked, nothing is paid", where="dry_run", remedy="leave it out"
        )
    bare = [name for name, one in definitions.categories.items() if not one.rules]
    if model is None and (
        len(bare) == len(definitions.categories) or (bare and definitions.several)
    ):
        remedy = "write rules, or name a model: --model URI"
        raise PomonaError(
            "has no rules, and no model is asked", where=f'"{bare[0]}"', remedy=remedy
        )


def _columns(definitions: Definitions) -> list[pa.Field]:
    name = definitions.name
    kinds = (pa.string(), pa.float64(), pa.string())
    beside = [pa.field(name + end, kind) for end, kind in zip(BY, kinds, strict=True)]
    flags = [pa.field(f"{name}_is_{one}", pa.string()) for one in definitions.categories]
    return [pa.field(name, pa.string()), *beside, *(flags if definitions.several else [])]


def _by_rules(
    records: Records, table: pa.Table, definitions: Definitions, column: str
) -> list[_Row]:
    rules = [rule for one in definitions.categories.values() for rule in one.rules]
    names = dict.fromkeys([column, *(name for rule in rules for name in rule.columns)])
    rows = []
    for index, values in enumerate(table.select(list(names)).to_pylist()):
        text = values[column]
        row = _Row(text if text and text.strip() else None)
        rows.append(row)
        if row.text is None:
            row.error = _NO_TEXT
            continue
        name = RowName(records, index)
        fits = fitting(definitions, row.text, values, name) if rules else []
        if definitions.several:
            row.yes = fits
            ruled = [name for name, one in definitions.categories.items() if one.rules]
            row.no = [name for name in ruled if name not in fits]
            if ruled:
                row.note("rules", 1.0)
        elif fits:
            row.yes = fits[:1]
            row.note("rules", 1 / len(fits))
    return rows


def _asked_names(definitions: Definitions) -> list[str]:
    """The categories that a model is asked about."""
    if not definitions.several:
        return list(definitions.names)
    return [name for name, one in definitions.categories.items() if not one.rules]


def _questions(
    rows: Sequence[_Row], asked: Mapping[str | None, Question], definitions: Definitions
) -> Iterator[dict[str, Any]]:
    for at, row in enumerate(rows):
        if row.text is None or (row.yes and not definitions.several):
            continue
        for name, question in asked.items():
            yield {"row": at, "category": name, "asked": question.about(row.text)}


def _take(answers: Records, rows: Sequence[_Row], options: Sequence[str]) -> None:
    """Note what a model said. Raises ResourceError where it named no category at all."""
    named, first = 0, None
    columns = ("row", "category", "candidates", "error", "stopped_by")
    for one in answers.select(*columns).to_table().to_pylist():
        row, about = rows[one["row"]], one["category"]
        said, sure, error = _vote(one, options)
        named += said is not None
        first = first or error
        if said is None:
            told = f"{about}: {error}" if about else error
            row.error = f"{row.error}; {told}" if row.error else told
            continue
        row.note("model", sure)
        if about is None:
            row.yes = [said]
        else:
            (row.yes if said == "yes" else row.no).append(about)
    if answers.count() and not named:
        message = f"named no category for any of the rows, the first time since it {first}"
        remedy = "use another model or --template; what it said is kept"
        raise ResourceError(message, where="the model", remedy=remedy)


def _vote(
    one: Mapping[str, Any], options: Sequence[str]
) -> tuple[str | None, float | None, str | None]:
    """What most draws name, of equals what was named first; its share; why there is nothing."""
    if one["candidates"] is None:
        spent = f"was not asked: the budget of {one['stopped_by']} was spent"
        return None, None, one["error"] or spent
    read_ = [categories_in(said, options) for said in one["candidates"]]
    counts = Counter(name for name, _ in read_ if name is not None)
    if not counts:
        return None, None, read_[0][1]
    said, count = counts.most_common(1)[0]
    return said, count / len(read_) if len(read_) > 1 else None, None


def _labels(table: pa.Table, rows: Sequence[_Row], definitions: Definitions) -> pa.Table:
    """The table with what its rows are in."""
    told = [_told(row, definitions) for row in rows]
    made = pa.Table.from_pylist(told, pa.schema(_columns(definitions)))
    return pa.table(
        [*table.columns, *made.columns], schema=pa.schema([*table.schema, *made.schema])
    )


def _told(row: _Row, definitions: Definitions) -> dict[str, Any]:
    name, said, error = definitions.name, list(row.yes), row.error
    if definitions.several:
        said = [one for one in definitions.categories if one in row.yes]
    if not said and error is None and definitions.otherwise:
        said = [definitions.otherwise]
        if not definitions.several:
            row.note("rules", 1.0)
    elif not said and error is None:
        if definitions.several:
            said = [NONE]
        else:
            error = _NO_RULE
    values = {
        name: None if error else TOGETHER.join(said),
        f"{name}_by": " and ".join(row.by) if not error else None,
        f"{name}_sure": row.sure if not error else None,
        f"{name}_error": error,
    }
    if definitions.several:
        for one in definitions.categories:
            told = "yes" if one in row.yes else "no" if one in row.no else None
            values[f"{name}_is_{one}"] = told
    return values


def _written(made: pa.Table, card: Card, records: Records, out: str | Path) -> Labelled:
    """Write rows that nobody was asked about. Raises PomonaError where no rule fits any."""
    name = card.parameters["categories"]
    if made.num_rows and made[name].null_count == made.num_rows:
        where, remedy = str(records.source.where), "widen the rules, or give --model"
        raise PomonaError("no rule fits any of the rows", where=where, remedy=remedy)
    paths = [str(part.where) for part in records.source.parts()]
    with Results(
        {"out": out}, inputs=records.paths, stamps=lambda: stamp(records.paths),
        folders={"the rejects": records.rejects},
    ) as results:  # fmt: skip
        results.write("out", as_records(made))
        inputs = inputs_of((path, None) for path in paths)
        sizes = {"rows_in": made.num_rows, "rows_out": made.num_rows}
        card = results.publish(replace(card, inputs=inputs, **sizes))
    return Labelled(made, card)
