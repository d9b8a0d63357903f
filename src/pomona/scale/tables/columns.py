"""Tables of published models: which column holds what, in which unit, each value checked."""

from __future__ import annotations

import datetime
import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError, nearest, row_of
from pomona.records import Records, Where, as_text, read

Floats = NDArray[np.float64]
Unit = Literal["ones", "millions", "billions"]
ScoreUnit = Literal["percent", "share", "other"]

# What a column is taken for by its name, in lower case and without its unit.
KNOWN: dict[str, str] = {
    "model": "fullname model_name_for_query model name model_name system",
    "params": "params parameters param_count n_params num_params num_parameters n_parameters "
    "total_params total_parameters parameter_count model_size size",
    "score": "score average top1 accuracy mmlu",
    "date": "date publication_date release_date released published submission_date",
    "flop": "flop flops training_compute training_flop compute",
    "tokens": "tokens training_tokens training_dataset_size pretraining_data_size dataset_size",
    "family": "family model_family",
    "kind": "type kind model_type",
    "merged": "merged is_merge",
    "not_merged": "",
    "base": "base curated_base",
    "flagged": "flagged contaminated hoax",
    "arena": "arena arena_rating arena_score elo",
    "organisation": "organisation organization organisations organizations org",
    "sector": "sector organization_categorization organisation_type",
}
_NUMBERS = ("params", "score", "flop", "tokens", "arena")
_POSITIVE = ("params", "flop", "tokens")
_TRUTHS = ("merged", "not_merged", "base")
_UNKNOWN = {"", "-", "–", "?", "na", "n/a", "nan", "none", "null", "unknown", "n.a."}
_SEVERAL = re.compile(r"\d{4,}(\s*[,;]\s*\d{4,})+")  # such as one for each stage
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?")
_SUFFIX = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*([kmbt])", re.IGNORECASE)
_BRACKETS = re.compile(r"[(\[]([^)\]]*)[)\]]")
_FACTORS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_WORDS = {"thousands": 1e3, "millions": 1e6, "billions": 1e9, "trillions": 1e12}
_UNITS: dict[str, float] = {"ones": 1.0, "millions": 1e6, "billions": 1e9}
_DAY = re.compile(r"\d{4}-\d{2}(-\d{2}([T ]\d{2}:\d{2}.*)?)?")
_FIRST, _LAST = "1940", "2100"  # outside no model was published: a slip of the pen
_LARGEST = 1e60  # no model has more of anything, and squares of it are still numbers
_TRUE, _FALSE = {"true", "yes", "1", "1.0"}, {"false", "no", "0", "0.0"}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table hold what; those left out are told by their usual names.

    Numbers stand in the unit that the column's name gives, as in `params_b`, `Size (B)`, `FLOPs
    (1E21)`, or in ones.

    Args:
        model: Column of the models' names.
        params: Column of parameters.
        score: Column of scores, of which more is better; its name is the metric.
        date: Column of dates, YYYY-MM-DD or YYYY-MM.
        flop: Column of training compute, in FLOP.
        tokens: Column of training tokens.
        family: Column of families, whose models are resampled together; without one the
            organisation is taken, as in ORG/MODEL.
        kind: Column of kinds of models, such as pretrained, chat, merge.
        merged: Column that says which models are merges.
        not_merged: Column that says which models are no merges.
        base: Column that says which models were really pretrained, instead of a list of them.
        flagged: Column that says which models are contaminated or hoaxes, or why.
        arena: Column of arena ratings.
        organisation: Column of organisations.
        sector: Column of sectors, such as academia and industry.
        params_unit: Unit of the parameters: ones, millions or billions.
        score_unit: What scores are: percent, share, or other for what has no ceiling.
    """

    model: str | None = None
    params: str | None = None
    score: str | None = None
    date: str | None = None
    flop: str | None = None
    tokens: str | None = None
    family: str | None = None
    kind: str | None = None
    merged: str | None = None
    not_merged: str | None = None
    base: str | None = None
    flagged: str | None = None
    arena: str | None = None
    organisation: str | None = None
    sector: str | None = None
    params_unit: Unit | None = None
    score_unit: ScoreUnit | None = None


@dataclass(frozen=True)
class Published:
    """The rows of a table of published models; `notes` say what in it could not be told.

    name: the table, as errors name it; digest: a hash of what was read.
    numbers: float64 [n] by what they are, in ones, NaN where unknown.
    texts: texts by what they are, None where unknown; truths: True, False or None.
    dates: datetime64[D] [n], NaT where unknown.
    columns: the table's own name of each column that was read.
    score_unit: percent, share or other; scores stand as they do in the table.
    """

    name: str
    models: list[str]
    numbers: Mapping[str, Floats]
    texts: Mapping[str, Sequence[str | None]]
    truths: Mapping[str, Sequence[bool | None]]
    dates: NDArray[np.datetime64] | None
    columns: Mapping[str, str]
    score_unit: ScoreUnit
    digest: str
    notes: Sequence[str] = ()
    records: Records | None = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.models)

    def where(self, row: int) -> str:
        """How an error names the row at `row`, from 0."""
        known = row_of(self.name, row) if self.records is None else self.records.row_name(row)
        return f"{known} ({self.models[row][:60]})"

    def clusters(self, rows: NDArray[np.intp]) -> tuple[list[str], str]:
        """What the models of some rows are resampled by, and what that is called: their families,
        else organisations, else each model by itself.
        """
        for what, called in (("family", "families"), ("organisation", "organisations")):
            if what in self.texts:
                column = self.texts[what]
                return [column[i] or self.models[i] for i in rows], called
        if sum("/" in self.models[i] for i in rows) > len(rows) / 2:
            return [self.models[i].split("/")[0] for i in rows], "organisations"
        return [f"{self.models[i]} {i}" for i in rows], "models"

    def factor(self) -> float:
        """What scores are multiplied by so that they are in points."""
        return 100.0 if self.score_unit == "share" else 1.0


def read_published(
    source: Where, columns: Columns, needed: Iterable[str], more: Sequence[str] = ()
) -> tuple[Published, dict[str, Floats]]:
    """The table with the columns that `columns` names or that are recognised, and of `more` columns
    of scores their values.

    Raises:
        PomonaError: the table cannot be read, a column that is `needed` or named is missing, or a
            value is not what its column holds; named by row.
    """
    records = read(source)
    name = str(source) if isinstance(source, str | Path) else records.source.where
    found = _found(records.column_names, columns, name, needed)
    for column in more:
        _require(column, records.column_names, name)
    records = records.select(*dict.fromkeys([*found.values(), *more]))
    table = records.to_table()
    if not len(table):
        raise PomonaError("there are no rows", where=name, remedy="check how it was written")
    # Dates, numbers and texts alike arrive as text from CSV: one way to read them serves all.
    cells = {column: as_text(table[column]).to_pylist() for column in table.column_names}
    models = [(text or "").strip() for text in cells[found["model"]]]
    reader = _Reader(name, records, models)
    numbers = {w: reader.numbers(w, found[w], cells[found[w]]) for w in _NUMBERS if w in found}
    if "params" in numbers:
        factor = _params_unit(found["params"], numbers["params"], columns.params_unit, name)
        numbers["params"] = numbers["params"] * factor
    scores = {column: reader.numbers("score", column, cells[column]) for column in more}
    first = {found["score"]: numbers["score"]} if "score" in found else {}
    unit = _one_unit({**first, **scores}, columns.score_unit, reader)
    texts = [w for w in found if w not in (*_NUMBERS, *_TRUTHS, "model", "date")]
    # What a column is taken for decides as much as what stands in it.
    read_as = (sorted(cells.items()), sorted(found.items()), columns.params_unit, unit)
    digest = hashlib.sha256(repr(read_as).encode("utf-8", "backslashreplace"))
    published = Published(
        name,
        models,
        numbers,
        {w: [_text(cell) for cell in cells[found[w]]] for w in texts},
        {w: reader.truths(found[w], cells[found[w]]) for w in _TRUTHS if w in found},
        reader.dates(found["date"], cells[found["date"]]) if "date" in found else None,
        found,
        unit,
        digest.hexdigest()[:12],
        reader.notes,
        records,
    )
    return published, scores


def _found(
    names: Sequence[str], columns: Columns, table: str, needed: Iterable[str]
) -> dict[str, str]:
    """The table's column for each thing that is named, or told by a usual name."""
    given = {f.name: getattr(columns, f.name) for f in fields(columns) if f.name in KNOWN}
    found: dict[str, str] = {}
    usual = {_plain(name): name for name in reversed(names)}
    for what, column in given.items():
        if column is not None:
            _require(column, names, table)
            found[what] = column
        elif match := next((usual[one] for one in KNOWN[what].split() if one in usual), None):
            found[what] = match
    if given["not_merged"] is not None and given["merged"] is None:
        found.pop("merged", None)
    for what in ("model", *needed):
        if what not in found:
            option = what.replace("_", "-")
            message = f"no column is known to hold {_CALLED.get(what, what)}"
            remedy = f"name one by --{option}: the table has {', '.join(map(str, names))}"
            if len(names) == 1 and (mark := re.search(r"[;\t|]", names[0])):
                message = f"its one column is {names[0][:60]!r}"
                remedy = f"separate the columns by commas instead of {mark[0]!r}"
            raise PomonaError(message, where=table, remedy=remedy)
    return found


_CALLED = {"model": "the models' names", "params": "parameters", "score": "scores", "date": "dates"}


def _plain(name: str) -> str:
    """A column's name in lower case, without its unit."""
    text = _BRACKETS.sub("", name).strip().lower()
    text = re.sub(r"[^a-z0-9]+", "_", text).strip("_")
    return re.sub(r"_(b|m|bn|billions|millions|in_billions)$", "", text)


def _require(column: str, names: Sequence[str], table: str) -> None:
    if column not in names:
        message = f'there is no column "{column}"'
        raise PomonaError(message, where=table, remedy=nearest(column, names))


def _text(cell: str | None) -> str | None:
    text = (cell or "").strip()
    return None if text.lower() in _UNKNOWN else text


class _Reader:
    """Cells of a table as numbers, dates and truths, with errors that name the row."""

    def __init__(self, table: str, records: Records, models: Sequence[str]) -> None:
        self.table, self.records, self.models = table, records, models
        self.notes: list[str] = []

    def where(self, row: int) -> str:
        return f"{self.records.row_name(row)} ({self.models[row][:60]})"

    def numbers(self, what: str, column: str, cells: Sequence[str | None]) -> Floats:
        """Numbers in ones, NaN where a cell is empty or says that it is unknown."""
        factor = _named_factor(column) if what in _POSITIVE else 1.0
        found = np.full(len(cells), np.nan)
        for row, cell in enumerate(cells):
            if (text := _text(cell)) is None:
                continue
            value = _number(text, factor)
            if value is not None and math.isnan(value):
                named = self.records.other_row(row, 0)
                self.notes.append(f'{named}: "{column}" has several numbers: unknown')
                continue
            if value is None or not abs(value) <= _LARGEST:
                message = f'"{column}" is "{text[:40]}", which is no number'
                remedy = "write digits alone, or leave the cell empty where it is unknown"
                raise PomonaError(message, where=self.where(row), remedy=remedy)
            if what in _POSITIVE and value <= 0:
                message = f'"{column}" is {text}, but must be above 0'
                remedy = "leave the cell empty where it is unknown"
                raise PomonaError(message, where=self.where(row), remedy=remedy)
            found[row] = value
        return found

    def dates(self, column: str, cells: Sequence[str | None]) -> NDArray[np.datetime64]:
        """Days, NaT where unknown."""
        found = np.full(len(cells), np.datetime64("NaT"), "datetime64[D]")
        for row, cell in enumerate(cells):
            if (text := _text(cell)) is not None:
                found[row] = parse_day(text, self.where(row), f'"{column}"')
        return found

    def truths(self, column: str, cells: Sequence[str | None]) -> list[bool | None]:
        """True, False, or None where unknown."""
        found: list[bool | None] = []
        for row, cell in enumerate(cells):
            text = (_text(cell) or "").lower()
            if text and text not in _TRUE | _FALSE:
                message = f'"{column}" is "{text[:40]}", which is neither true nor false'
                remedy = "write true or false, or leave the cell empty where it is unknown"
                raise PomonaError(message, where=self.where(row), remedy=remedy)
            found.append(None if not text else text in _TRUE)
        return found


def parse_day(text: str, where: object, what: str, *, last: bool = False) -> np.datetime64:
    """A date, of a month its first day, or its last. Raises PomonaError for what is no date."""
    try:
        if not _DAY.fullmatch(text) or not _FIRST <= text[:4] < _LAST:
            raise ValueError(text)
        if len(text) == 7:
            first = np.datetime64(datetime.date.fromisoformat(f"{text}-01"), "D")
            following = (np.datetime64(text, "M") + 1).astype("datetime64[D]")
            return following - np.timedelta64(1, "D") if last else first
        return np.datetime64(datetime.date.fromisoformat(text[:10]), "D")
    except ValueError as error:
        message = f'{what} is "{text[:40]}", which is no date'
        remedy = "write YYYY-MM-DD or YYYY-MM, or leave it out where it is unknown"
        raise PomonaError(message, where=where, remedy=remedy) from error


def parse_size(given: float | str, where: str) -> float:
    """Parameters from a number or from text such as 13B. Raises PomonaError for what is no size."""
    value = given if isinstance(given, float | int) else _number(given.strip(), 1.0)
    if value is None or not 0 < value < math.inf:
        remedy = "give parameters, such as 13B or 13e9"
        raise PomonaError(f'"{given}" is no size', where=where, remedy=remedy)
    return float(value)


def _number(text: str, factor: float) -> float | None:
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    if _SEVERAL.fullmatch(text):
        each = {float(one) for one in re.split(r"[,;]", text)}
        return each.pop() * factor if len(each) == 1 else math.nan
    if match := _SUFFIX.fullmatch(text):
        return float(match[1]) * _FACTORS[match[2].lower()]
    try:
        return float(text) * factor
    except ValueError:
        return None


def _named_factor(column: str) -> float:
    """The unit that a column's name gives: `(B)`, `(1E21)`, `_b`, `(millions)`."""
    for told in _BRACKETS.findall(column):
        word = told.strip().lower()
        if word in _FACTORS or word in _WORDS:
            return {**_FACTORS, **_WORDS}[word]
        if re.fullmatch(r"1e\+?\d+", word):
            return float(word)
    match = re.search(r"[_ ](b|bn|m|billions|millions)$", column.strip().lower())
    return 1.0 if match is None else {"b": 1e9, "m": 1e6}[match[1][0]]


def _params_unit(column: str, values: Floats, given: Unit | None, table: str) -> float:
    """What parameters are still to be multiplied by: the unit of the option in place of that of the
    name. Raises PomonaError where the numbers are those of no models.
    """
    named = _named_factor(column)
    factor = 1.0 if given is None else _UNITS[given] / named
    known = factor * values[np.isfinite(values)]
    few = given is None and named == 1.0 and len(known) and np.median(known) < 1e4
    many = len(known) and np.median(known) > 1e13
    if few or many:
        message = f'the median of "{column}" is {np.median(known):g}'
        wrong = f"{message} parameters: no models have so {'many' if many else 'few'}"
        units = "billions or millions" if few else "ones"
        remedy = f"say what the column counts in: --params-unit {units}"
        raise PomonaError(wrong, where=table, remedy=remedy)
    return factor


def _one_unit(scores: Mapping[str, Floats], given: ScoreUnit | None, reader: _Reader) -> ScoreUnit:
    """What the scores of all columns are. Raises PomonaError where they are not of one kind."""
    units: dict[str, ScoreUnit] = {
        name: _score_unit(name, values, given, reader) for name, values in scores.items()
    }
    first: ScoreUnit = next(iter(units.values())) if units else "other"
    for name, unit in units.items():
        if unit != first:
            message = f'"{name}" holds {_NAMED[unit]}, and the first column {_NAMED[first]}'
            remedy = "write all in one unit, or say it by --score-unit"
            raise PomonaError(message, where=reader.table, remedy=remedy)
    return first


_NAMED = {"percent": "percentages", "share": "shares", "other": "scores without a ceiling"}


def _score_unit(column: str, values: Floats, given: ScoreUnit | None, reader: _Reader) -> ScoreUnit:
    """What scores are. Raises PomonaError where some look like shares and others like percentages,
    or where they are not what was said.
    """
    known = np.isfinite(values)
    if given is not None:
        most = {"percent": 100.0, "share": 1.0, "other": math.inf}[given]
        outside = known & ((values > most) | (values < (0 if given != "other" else -math.inf)))
        if outside.any():
            row = int(np.flatnonzero(outside)[0])
            message = f'"{column}" is {values[row]:g}, which is no {given}'
            remedy = "correct the row, or give --score-unit other"
            raise PomonaError(message, where=reader.where(row), remedy=remedy)
        return given
    if not known.any() or values[known].max() > 100 or values[known].min() < 0:
        return "other"
    if values[known].max() <= 1:
        return "share"
    small = known & (values > 0) & (values <= 1)
    if small.any():
        row = int(np.flatnonzero(small)[0])
        message = f'"{column}" is {values[row]:g}, while others go up to {values[known].max():g}'
        remedy = "write one kind alone; where all are percentages, give --score-unit percent"
        raise PomonaError(message, where=reader.where(row), remedy=remedy)
    return "percent"


def rows_with(published: Published, *what: str) -> NDArray[np.intp]:
    """The rows in which all these numbers are known."""
    known = np.ones(len(published), bool)
    for one in what:
        known &= np.isfinite(published.numbers[one])
    return np.flatnonzero(known)


def require_models(published: Published, rows: NDArray[np.intp], least: int = 2) -> None:
    """Raise PomonaError where too few models are left to compare."""
    if len(rows) >= least:
        return
    have = "no model has" if not len(rows) else "only one model has"
    have = have if len(rows) < 2 else f"only {len(rows)} models have"
    message = f"{have} both parameters and a score"
    remedy = f"give a table of {least} models or more"
    where = published.name if not len(rows) else published.where(int(rows[0]))
    raise PomonaError(message, where=where, remedy=remedy)
