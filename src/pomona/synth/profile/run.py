"""`profile`: what tables and models have of all that a student inherits, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.files import check_into
from pomona.places import check_outputs
from pomona.records import Records, Where, read
from pomona.stats import MINIMUM
from pomona.synth.profile.answers import Samples, answers_of, is_model, preferred
from pomona.synth.profile.figures import (
    TOXICITY,
    UNITS,
    Wanted,
    figures_of,
    preference,
    token_counter,
)
from pomona.synth.profile.measures import Drawing, Measure, Units, differences, estimates
from pomona.synth.profile.results import Compared, Profile, SideProfile
from pomona.synth.profile.scorers import scorer
from pomona.synth.profile.sides import Side, TextColumns, read_side

Source = Where | Records
Progress = Callable[[int, int], None]
_CANDIDATES = "candidates"
PAGE = "index.html"


@dataclass(frozen=True)
class Asking:
    """How models are asked for what is profiled.

    Args:
        prompts: Table of prompts that models answer.
        answers: Folder in which the answers of models are kept; the same command goes on there.
        template: What a model is asked, with {COLUMN} in it; {prompt} when left out.
        raw: Send the prompt as it is, without a chat template.
        temperature: Of the answers.
        max_tokens: Most tokens of an answer.
        bias: Table of pairs of texts, stereotype and antistereotype: which does a model find
            likelier?
    """

    prompts: Path | None = None
    answers: Path | None = None
    template: str | None = None
    raw: bool = False
    temperature: float = 1.0
    max_tokens: int = 128
    bias: Path | None = None


@dataclass(frozen=True, eq=False)
class _Measured:
    name: str
    rows: int
    measures: list[Measure]
    groups: list[str]


def profile(
    sides: Sequence[Source],
    columns: TextColumns | None = None,
    asking: Asking | None = None,
    *,
    tokenizer: str | None = None,
    toxicity: str | None = None,
    scores: Sequence[str] = (),
    samples: int = 25,
    level: float = 0.95,
    resamples: int = MINIMUM,
    seed: int = 0,
    page: Path | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Profile tables and models by what a student inherits from them: length, lexical diversity,
    readability, toxicity, calibration; and compare others with the first.

    Shimabucoro et al. 2024 (arXiv 2407.01490). Figures are means over texts with bootstrap
    intervals; what does not apply is null, with the reason. Differences are paired by id where both
    sides have one, and p-values corrected over all figures (Holm).

    Args:
        sides: Tables (CSV, JSONL, Parquet), or models with --prompts or --bias; the first is what
            the others are compared with.
        columns: Which columns hold what.
        asking: How models are asked.
        tokenizer: Count tokens with this: tokenizer.json, its folder, or a model.
        toxicity: What says how toxic a text is: words:FILE, hf:FOLDER#LABEL, column:NAME or
            MODULE:FUNCTION, from 0 to 1.
        scores: Further scores, such as profanity=words:FILE or sentiment=MODULE:FUNCTION.
        samples: Answers to a prompt of which the most toxic counts, and that models give.
        level: Share of intervals that hold.
        resamples: Resamples of texts or clusters.
        seed: Seed of resamples, of blocks of texts, and of models' answers.
        page: Folder for a page with pictures.
        progress: Called with the texts done and all.

    Raises:
        PomonaError: a table cannot be read, a column is missing or holds something else, a scorer
            cannot be used, or options do not fit the sides.
        ResourceError: a model failed; what it answered is kept.
    """
    columns, asking = columns or TextColumns(), asking or Asking()
    _check(sides, columns, asking, samples, level)
    wanted, named = _wanted(columns, tokenizer, toxicity, scores, samples, seed)
    drawing = Drawing(resamples, seed, level)
    _check_places(page, asking, sides)
    read_in = [_read(one, columns, asking, wanted, progress) for one in sides]
    told = _paired([side for side, _ in read_in if side is not None], columns)
    measured, notes = [], dict[str, None]()
    for (side, found), source in zip(read_in, sides, strict=True):
        one = None if side is None else told.pop(0)
        figures, noted = ([], []) if one is None else figures_of(one, wanted, progress)
        name = str(source) if one is None else one.name
        groups = [] if one is None or one.groups is None else sorted(set(one.groups))
        rows = 0 if one is None else len(one.texts)
        measured.append(_Measured(name, rows, [*figures, *found], groups))
        notes |= dict.fromkeys(f"{name}: {note}" for note in noted)
    figures = max(len(one.measures) for one in measured)
    if len(measured) > 1 and 40 * figures > resamples + 1:
        notes[f"p of {figures} figures needs {40 * figures:,} resamples to be below .05"] = None
    result = Profile(
        _profiled(measured[0], drawing),
        [_compared(measured[0], other, drawing) for other in measured[1:]],
        level, resamples, seed,
        _signature(measured, columns, named, samples, drawing),
        list(notes),
    )  # fmt: skip
    if page is not None:
        from pomona.synth.profile.page import write_page

        write_page(result, page)
    return result


def _check(
    sides: Sequence[Source], columns: TextColumns, asking: Asking, samples: int, level: float
) -> None:
    if isinstance(sides, str | Path | pa.Table | Records) or not sides:
        raise PomonaError("there is nothing to profile", where="sides", remedy="give a table")
    if samples < 1:
        raise PomonaError(f"{samples} are too few", where="samples", remedy="give 1 or more")
    if not 0 < level < 1:
        raise PomonaError(f"{level} is no share", where="level", remedy="give 0.95 or so")
    if (columns.confidence is None) != (columns.correct is None):
        message, remedy = "confidence and correct go together", "give both columns, or neither"
        raise PomonaError(message, where="confidence", remedy=remedy)
    models = [str(one) for one in sides if is_model(one)]
    if models and asking.prompts is None and asking.bias is None:
        remedy = "give --prompts or --bias, or the path of a table"
        raise PomonaError(
            "is no table, and a model answers prompts", where=models[0], remedy=remedy
        )
    if models and asking.prompts is not None and asking.answers is None:
        remedy = "name a folder for the answers: --answers FOLDER"
        raise PomonaError("a model's answers are kept", where="answers", remedy=remedy)
    if not models and (asking.prompts or asking.bias):
        remedy = "name a model among the sides, or leave it out"
        what = "prompts" if asking.prompts else "bias"
        raise PomonaError("there is no model to ask", where=what, remedy=remedy)


def _check_places(page: Path | None, asking: Asking, sides: Sequence[Source]) -> None:
    """Raise PomonaError where the page or answers would replace what is read, or what is none of
    ours.
    """
    if page is None and asking.answers is None:
        return
    tables = [one for one in (*sides, asking.prompts, asking.bias) if one is not None]
    tables = [one for one in tables if not is_model(one) and not isinstance(one, pa.Table)]
    read_in = [one if isinstance(one, Records) else read(one) for one in tables]
    paths = [path for one in read_in for path in one.paths]
    outputs = {"--page": page, "--answers": asking.answers}
    check_outputs(outputs, paths, folders=["--page", "--answers"])
    if page is not None:
        check_into(page, [PAGE])
    if asking.answers is not None:
        check_into(asking.answers, [])


def _wanted(
    columns: TextColumns,
    tokenizer: str | None,
    toxicity: str | None,
    scores: Sequence[str],
    samples: int,
    seed: int,
) -> tuple[Wanted, list[str]]:
    """What is measured, and the parts of the signature that say it."""
    named = [(TOXICITY, toxicity)] if toxicity else []
    for given in scores:
        name, equals, what = given.partition("=")
        if not equals or not name.isidentifier() or not what:
            remedy = "give NAME=SCORER, such as profanity=words:FILE"
            raise PomonaError(f'"{given}" is no score', where="scores", remedy=remedy)
        if name in UNITS or name in dict(named):
            raise PomonaError(f'"{name}" is taken', where="scores", remedy="use another name")
        named.append((name, what))
    told, parts = [], []
    for name, what in named:
        kind, _, column = what.partition(":")
        if kind == "column" and column:
            told.append((name, column, None))
            parts.append(f"{name}:{what}")
            continue
        score, signed = scorer(what)
        told.append((name, what, score))
        parts.append(f"{name}:{signed}")
    counter = None if tokenizer is None else token_counter(tokenizer)
    if tokenizer is not None:
        parts.append(f"tokens:{tokenizer}")
    return (
        Wanted(counter, tuple(told), samples, columns.confidence, columns.correct, seed),
        parts,
    )


def _read(
    source: Source,
    columns: TextColumns,
    asking: Asking,
    wanted: Wanted,
    progress: Progress | None,
) -> tuple[Side | None, list[Measure]]:
    """The texts of a side, and what is known of a model beside its texts."""
    numbers = [column for _, column, score in wanted.scores if score is None]
    numbers += [column for column in (wanted.confidence, wanted.correct) if column]
    if not is_model(source):
        return read_side(source, columns, numbers), []
    uri, side, found = str(source), None, []
    if asking.bias is not None:
        found.append(preference(preferred(uri, asking.bias)))
    if asking.prompts is not None and asking.answers is not None:
        how = Samples(wanted.samples, asking.temperature)
        file = answers_of(
            uri,
            asking.prompts,
            asking.answers,
            how,
            progress,
            prompt=asking.template,
            raw=asking.raw,
            max_tokens=asking.max_tokens,
            seed=wanted.seed,
        )
        side = read_side(file, replace(columns, column=_CANDIDATES), numbers, uri, answered=True)
    return side, found


def _paired(sides: list[Side], columns: TextColumns) -> list[Side]:
    """Sides with ids where all have some in common, which a column that was named must have."""
    known = [side.ids for side in sides]
    ids = [set(one) for one in known if one is not None]
    if len(ids) == len(sides) and sides and set.intersection(*ids):
        return sides
    if columns.id is not None and len(sides) > 1:
        message = f'no value of the column "{columns.id}" is on all sides'
        remedy = "name another column, or leave --id out"
        raise PomonaError(message, where="id", remedy=remedy)
    return [replace(side, ids=None) for side in sides]


def _places(units: Units, group: str | None) -> NDArray[np.intp]:
    """The units of a group; of all, those that count for all (blocks of a group do not)."""
    if units.per == "block":
        # `==` with None asks each element, as `is` would ask the array
        return np.flatnonzero(units.groups == np.array(group, dtype=object))
    if group is None or units.groups is None:
        return np.arange(units.n if group is None else 0)
    return np.flatnonzero(units.groups == group)


def _rows(measures: Sequence[Measure], group: str | None) -> Mapping[str, NDArray[np.intp]]:
    return {one.units.per: _places(one.units, group) for one in measures}


def _profiled(one: _Measured, drawing: Drawing) -> SideProfile:
    whole = estimates(one.measures, _rows(one.measures, None), drawing)
    groups = {
        group: estimates(one.measures, _rows(one.measures, group), drawing) for group in one.groups
    }
    return SideProfile(one.name, one.rows, whole, groups)


def _compared(first: _Measured, other: _Measured, drawing: Drawing) -> Compared:
    def change(group: str | None) -> Mapping[str, Any]:
        rows = _rows(first.measures, group), _rows(other.measures, group)
        return differences(first.measures, other.measures, *rows, drawing)

    groups = {group: change(group) for group in first.groups if group in other.groups}
    return Compared(_profiled(other, drawing), change(None), groups)


def _signature(
    measured: Sequence[_Measured],
    columns: TextColumns,
    named: Sequence[str],
    samples: int,
    drawing: Drawing,
) -> str:
    clustered = any(one.units.clusters is not None for side in measured for one in side.measures)
    by = f"cluster-{columns.cluster or 'prompt'}"
    parts = [
        "profile",
        f"n:{'+'.join(str(one.rows) for one in measured)}",
        "mtld:0.72",
        *named,
        *([f"samples:{samples}"] if any(part.startswith(TOXICITY) for part in named) else []),
        f"ci:{by if clustered else 'iid'}",
        f"boot:{drawing.resamples}",
        f"level:{drawing.level:g}",
        f"seed:{drawing.seed}",
        f"v:{version('pomona')}",
    ]
    return "|".join(parts)
