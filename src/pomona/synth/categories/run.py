"""`annotate`: rows put in categories by rules or a model, beside what people said of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Unpack

import pyarrow as pa

from pomona.answers import AskingOptions, ModelOrUri
from pomona.answers.categories import (
    NONE,
    TOGETHER,
    Definitions,
    Labelled,
    label_rows,
    read_definitions,
)
from pomona.errors import PomonaError, are, quantity
from pomona.files import check_into
from pomona.places import check_outputs
from pomona.records import Card, Records, Where, as_records, as_text, card_of, files_at, read
from pomona.stats import MINIMUM, Resamples
from pomona.synth.categories.agreement import Drawing, agree
from pomona.synth.categories.human import human_labels
from pomona.synth.categories.results import Agreement, Annotated

PAGE = "index.html"
_USUAL = ("text", "completion", "answer", "prompt", "english")


def annotate(
    inputs: Where | Records,
    out: str | Path,
    definitions: Path | Definitions,
    *,
    model: ModelOrUri | None = None,
    column: str | None = None,
    template: Path | None = None,
    samples: int = 5,
    temperature: float = 1.0,
    free: bool = False,
    human: str | None = None,
    labels: Where | None = None,
    id: str | None = None,
    cluster: str | None = None,
    level: float = 0.95,
    resamples: int = MINIMUM,
    seed: int = 0,
    page: Path | None = None,
    **asking: Unpack[AskingOptions],
) -> Annotated | Card:
    """Put rows in categories that are defined in words, by rules, by a model, or by rules first and
    a model where they are silent; and say how far people agree.

    The result is the table with the category in a column, which every --group takes, beside it what
    said so and how sure. A reply that names no category is an error of its row. Everything a model
    says is kept at once beside OUT; the same command goes on after an interruption and pays nothing
    twice. The exit code is 1 when a budget ended or a model failed before all rows were asked.

    Args:
        inputs: Rows: files, globs, dataset folders or s3:// addresses.
        out: File of the rows with their categories; the card is written beside it.
        definitions: YAML file of the categories, with definitions for a model, rules, or both.
        model: URI of a model that is asked where no rule fits; without one the rules alone decide.
        column: Column of texts; text, completion, answer, prompt or english, whichever there is
            first, when left out.
        template: File of what the model is asked, with {categories} and {text} in it.
        samples: Draws of each answer, of which most count; their share says how sure it is.
        temperature: Of all draws but the first, which is greedy.
        free: Do not hold the model to the categories; read what it says.
        human: Column of what people said, for the agreement.
        labels: Table in which people said it, such as the labels.csv of an audit, joined by --id or
            by the text; the same table when left out.
        id: Column by which --labels is joined.
        cluster: Column of what is resampled together for intervals.
        level: Share of intervals that hold.
        resamples: Resamples behind each interval.
        seed: Seed.
        page: Folder for a page with pictures.

    Raises:
        PomonaError: a table or the definitions cannot be read, a column is missing, nothing is
            labelled, or an option is wrong. Nothing was asked.
        ResourceError: the last 5 requests all failed, or a model named no category at all. The
            store keeps what was said.
    """
    records = as_records(inputs) if isinstance(inputs, Records | pa.Table) else read(inputs)
    if labels is not None and human is None:
        remedy = "name it: --human COLUMN"
        raise PomonaError("which column says what people said?", where="labels", remedy=remedy)
    if id is not None and labels is None:
        raise PomonaError("joins --labels, which is not given", where="id", remedy="leave it out")
    Resamples(1, resamples, seed)  # refuses wrong numbers before models are asked
    told = read_definitions(definitions) if isinstance(definitions, Path) else definitions
    column = column or _column(records)
    where = str(records.source.where)
    read_in = [*records.paths, *(files_at(labels) if isinstance(labels, str | Path) else [])]
    read_in += [str(one) for one in (definitions, template) if isinstance(one, Path)]
    outputs = {"--out": out, "the card": card_of(out), "the store": asking.get("store")}
    check_outputs({**outputs, "--page": page}, read_in, folders=["--page"])
    if page is not None:
        check_into(page, [PAGE])
    records.require(column, *([cluster] if cluster else []))
    before = None
    if human is not None:
        table = records.to_table()
        before = human_labels(table, where, human, column=column, labels=labels, id=id)
    made = label_rows(
        records, out, told, column=column, model=model, template=template, samples=samples,
        temperature=temperature, free=free, seed=seed, operation="synth annotate", **asking,
    )  # fmt: skip
    if isinstance(made, Card):
        return made
    clusters = None if cluster is None else as_text(made.table[cluster]).to_pylist()
    drawing = Drawing(clusters, resamples, seed, level)
    beside = None if before is None else agree(made.table, told, column, before, drawing)
    result = _annotated(made, told, beside, str(out), drawing)
    if page is not None:
        from pomona.synth.categories.page import write_page

        write_page(result, page)
    return result


def _column(records: Records) -> str:
    names = records.column_names
    found = next((one for one in _USUAL if one in names), None)
    if found is None:
        remedy = f"name it: --column {names[0]}" if names else "give a table with texts"
        raise PomonaError(
            f"has no column {', '.join(_USUAL)}", where=str(records.source.where), remedy=remedy
        )
    return found


def _annotated(
    made: Labelled,
    definitions: Definitions,
    beside: Agreement | None,
    out: str,
    drawing: Drawing,
) -> Annotated:
    name, table = definitions.name, made.table
    said = [one for one in table[name].to_pylist() if one is not None]
    parts = [part for one in said for part in one.split(TOGETHER)]
    names = [*definitions.names, *([NONE] if definitions.several else [])]
    counted = Counter(parts)
    counts = {one: counted[one] for one in names if one != NONE or counted[one]}
    by = Counter(one for one in table[f"{name}_by"].to_pylist() if one is not None)
    errors = [one for one in table[f"{name}_error"].to_pylist() if one is not None]
    reasons = Counter(one.split(': "')[0] for one in errors)
    sure = [one for one in table[f"{name}_sure"].to_pylist() if one is not None]
    details = made.card.details
    spent = {one: details[one] for one in ("spent", "paid") if one in details} or None
    intervals = [
        f"ci:{'iid' if drawing.clusters is None else 'clustered'}",
        f"boot:{drawing.resamples}",
        f"level:{drawing.level:g}",
    ]
    return Annotated(
        name, table.num_rows, counts, dict(by), dict(reasons.most_common()), made.failed,
        sum(sure) / len(sure) if sure else None, beside, out,
        "|".join([made.card.signature, *(intervals if beside else [])]),
        drawing.seed, _notes(beside), spent, definitions.several,
    )  # fmt: skip


def _notes(beside: Agreement | None) -> list[str]:
    if beside is None:
        return []
    notes = []
    if beside.unmatched:
        notes.append(
            f"{quantity(beside.unmatched, 'label is of a row', 'labels are of rows')}"
            f" that {are(beside.unmatched)} not in the table"
        )
    if beside.open:
        notes.append(
            f"{quantity(beside.open, 'row')} that people labelled without a category "
            f"{are(beside.open)} in no figure of agreement"
        )
    if beside.ambiguous:
        notes.append(
            f"{quantity(beside.ambiguous, 'label is', 'labels are')}"
            " of a text that is there more than once: its first "
            "row counts"
        )
    return notes
