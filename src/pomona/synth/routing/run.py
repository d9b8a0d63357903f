"""`route`: from tables of answers to a router, a table, and what each policy is worth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError, nearest
from pomona.files import check_into
from pomona.places import check_outputs
from pomona.records import Where, read
from pomona.stats import MINIMUM
from pomona.synth.rewards import Reward, reward_from
from pomona.synth.routing.comparing import Judging, compare_policies
from pomona.synth.routing.learning import Form, learn_router
from pomona.synth.routing.measured import measure_fixed
from pomona.synth.routing.page import PAGE, write_page
from pomona.synth.routing.policies import Every, Fixed, Policy, Random, Single
from pomona.synth.routing.pool import Pool
from pomona.synth.routing.results import Routing
from pomona.synth.routing.router import Learned, Router
from pomona.synth.teachers import Assignment, Candidate, Lesson

_COLUMN = "column:"


@dataclass(frozen=True)
class AnswerColumns:
    """Which columns of a table of answers hold what.

    Args:
        id: Column of rows' ids: answers with the same are to the same row.
        text: Column of what was asked.
        lang: Column of the languages of answers.
        teacher: Column of who answered.
        answer: Column of answers.
        reference: Column of humans' answers; reference where there is one.
        cluster: Column of what hangs together; cluster where there is one, else the text.
        sample: Column of the numbers of draws, from 0; sample where there is one.
        cost: Column of what each answer cost, in any unit.
    """

    id: str = "id"
    text: str = "text"
    lang: str = "lang"
    teacher: str = "teacher"
    answer: str = "answer"
    reference: str | None = None
    cluster: str | None = None
    sample: str | None = None
    cost: str | None = None


def route(
    answers: Where,
    columns: AnswerColumns | None = None,
    *,
    test: Where | None = None,
    reward: Sequence[str] = ("agreement", "placeholders"),
    learn: Sequence[str] = (),
    judge: str = "chrf",
    tolerance: float = 0.0,
    out: str | Path | None = None,
    page: Path | None = None,
    level: float = 0.95,
    resamples: int = MINIMUM,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Routing:
    """Learn who should be asked, from answers of several teachers to the same rows; with --test say
    what it gains over asking one teacher, a lot, a table of languages, or all.

    Multilingual arbitrage (Odumakinde et al. 2024, arXiv 2408.14960). Policies: each teacher alone,
    a lot, `fixed` (the best of each language on these answers), `learned` (a router on the prompt
    alone), `reward` (all are asked, the best by --reward is kept) and `all`.

    Args:
        answers: Table of validation answers, a row each.
        columns: Which columns hold what.
        test: Table of test answers, with references. No source may be in both.
        reward: What answers are kept by: names of rewards such as agreement=2 with their weights,
            MODULE:FUNCTION, or column:NAME.
        learn: What table and router are learned from, such as reference; the rewards when left out.
        judge: The metric of answers with references; none that anything was chosen by.
        tolerance: Reward that the router may give up for lower costs; 0 when costs are not known.
        out: File to write the router to (safetensors).
        page: Folder for a page.
        level: Share of intervals that hold.
        resamples: Resamples of clusters.
        seed: Seed of folds, lots and resamples.
        progress: Called with the parts of learning done and all.

    Raises:
        PomonaError: a table cannot be read, a column is missing, a reward cannot be used, a source
            is in both tables, or there are too few answers to learn from.
    """
    columns = columns or AnswerColumns()
    paths = [path for one in (answers, test) if one is not None for path in read(one).paths]
    check_outputs({"--out": out, "--page": page}, paths, folders=["--page"])
    if page is not None:
        check_into(page, [PAGE])
    _check_router(out)
    valid = _Answers(answers, columns)
    other = None if test is None else _Answers(test, columns)
    if other is not None:
        _check_apart(valid, other)
    keeping = _Rewards(reward or ("agreement",), valid)
    learning = _Rewards(learn, valid) if learn else keeping
    told = learning.of(valid)
    costs = valid.mean_costs()
    form = Form(tolerance=tolerance, seed=seed)
    router = learn_router(valid.pool, told, costs=costs, form=form, progress=progress)
    fixed, single = measure_fixed(valid.pool, told), best_single(valid.pool, told)
    rows = len(valid.pool.rows)
    signature = f"route|{learning.signature}|{router.signature}|n:{rows}|seed:{seed}"
    result = Routing(fixed, router, single, rows, signature)
    if other is not None:
        judging = Judging(judge, single, resamples=resamples, level=level, seed=seed)
        routes = compare_policies(
            other.pool, _policies(valid.pool, fixed, router, seed), keeping.of(other),
            judging=judging, costs={"cost": other.costs} if columns.cost else None,
        )  # fmt: skip
        result = replace(result, routes=routes, signature=f"{signature}|{routes.signature}")
    if out is not None:
        router.save(out)
    if page is not None:
        write_page(result, page)
    return result


def best_single(pool: Pool, rewards: NDArray[np.float64]) -> str:
    """The teacher of the highest mean reward among those that answer the most rows, or nearly as
    many (nine tenths).
    """
    matrix = pool.matrix(rewards)
    count = np.isfinite(matrix).sum(0)
    mean = np.nansum(matrix, axis=0) / np.maximum(count, 1)
    return pool.teachers[int(np.where(count >= 0.9 * count.max(), mean, -np.inf).argmax())]


def _policies(pool: Pool, fixed: Fixed, router: Router, seed: int) -> list[Policy]:
    names = pool.teachers
    singles = [Single(name) for name in names]
    return [
        *singles,
        Random(names, seed),
        fixed,
        Learned(router),
        Every(names),
        Every(names, "all"),
    ]


class _Answers:
    """A table of answers as a pool, with its columns of numbers."""

    def __init__(self, where: Where, columns: AnswerColumns) -> None:
        self.where = str(where)
        records = read(where)
        needed = (columns.id, columns.text, columns.lang, columns.teacher, columns.answer)
        there = (one for one in needed if one in records.column_names)
        self.records = records.complete(*there)
        table = self.records.to_table()
        self.names = table.column_names
        self.rows: list[dict[str, Any]] = table.to_pylist()
        self.columns = columns
        for name in (columns.id, columns.text, columns.lang, columns.teacher, columns.answer):
            self._there(name)
        reference, cluster, sample = (
            self._optional(given, usual)
            for given, usual in (
                (columns.reference, "reference"),
                (columns.cluster, "cluster"),
                (columns.sample, "sample"),
            )
        )
        candidates = []
        for index, row in enumerate(self.rows):
            told = [row[each] for each in (columns.id, columns.text, columns.lang)]
            who, answer = row[columns.teacher], row[columns.answer]
            if any(value is None for value in (*told, who, answer)):
                remedy = "fill in ids, texts, languages, teachers and answers"
                named = self.records.row_name(index)
                raise PomonaError("a cell is empty", where=named, remedy=remedy)
            key, text, lang = map(str, told)
            right = row[reference] if reference else None
            hangs = row[cluster] if cluster else None
            task = Assignment(
                key, text, "", lang,
                None if right is None else str(right),
                None if hangs is None else str(hangs),
            )  # fmt: skip
            draw = self._draw(row[sample], index) if sample else 0
            candidates.append(
                Candidate(task, Lesson(key, str(answer), str(who), None, sample=draw))
            )
        self.pool = Pool.of(candidates)

    @property
    def costs(self) -> NDArray[np.float64]:
        """What each answer cost, `[c]`."""
        return self.numbers(self.columns.cost or "")

    def mean_costs(self) -> Mapping[str, float] | None:
        """What an answer of each teacher costs on average; None without a column of costs."""
        if self.columns.cost is None:
            return None
        told = np.nanmean(self.pool.matrix(self.costs), axis=0)
        return dict(zip(self.pool.teachers, map(float, told), strict=True))

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column of numbers, NaN where it is empty."""
        self._there(name)
        try:
            return np.array(
                [np.nan if row[name] is None else float(row[name]) for row in self.rows]
            )
        except (TypeError, ValueError) as error:
            remedy = "name a column of numbers"
            message = "holds something else than numbers"
            raise PomonaError(message, where=f"{self.where}, {name}", remedy=remedy) from error

    def _draw(self, value: Any, row: int) -> int:
        if isinstance(value, int) and 0 <= value < 10_000:
            return value
        where = self.records.row_name(row)
        raise PomonaError(f"{value!r} is no draw", where=where, remedy="count draws from 0")

    def _there(self, name: str) -> None:
        if name not in self.names:
            remedy = nearest(name, self.names)
            raise PomonaError(
                "there is no such column", where=f"{self.where}, {name}", remedy=remedy
            )

    def _optional(self, given: str | None, usual: str) -> str | None:
        if given is not None:
            self._there(given)
            return given
        return usual if usual in self.names else None


class _Rewards:
    """A reward that was named, fitted on validation answers."""

    def __init__(self, given: Sequence[str], valid: _Answers) -> None:
        columns = [name.removeprefix(_COLUMN) for name in given if name.startswith(_COLUMN)]
        if columns and len(given) > 1:
            remedy = "name the column alone, or no column"
            raise PomonaError("a column is a reward of its own", where="reward", remedy=remedy)
        self._column = columns[0] if columns else None
        self._reward: Reward | None = None
        if self._column is None:
            self._reward = reward_from(_spec(given)).fit(valid.pool.candidates)
        self.signature = self._reward.signature if self._reward else f"{_COLUMN}{self._column}"

    def of(self, answers: _Answers) -> NDArray[np.float64]:
        """The rewards of answers `[c]`."""
        if self._reward is None:
            return answers.numbers(self._column or "")
        return self._reward.score(answers.pool.candidates)


def _spec(given: Sequence[str]) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    for one in given:
        name, equals, weight = one.partition("=")
        try:
            told = float(weight) if equals else 1.0
        except ValueError as error:
            remedy = "give NAME or NAME=WEIGHT"
            raise PomonaError(f'"{one}" is no reward', where="reward", remedy=remedy) from error
        if ":" in name:
            spec["function"] = {"name": name, "weight": told}
        else:
            spec[name] = told
    return spec


def _check_apart(valid: _Answers, test: _Answers) -> None:
    """Raise PomonaError where a source is in both tables."""
    seen = {row.cluster or row.text for row in valid.pool.rows}
    for row in test.pool.rows:
        if (row.cluster or row.text) in seen:
            remedy = "split the rows by their sources"
            message = "its source is among the answers that are learned from, too"
            raise PomonaError(message, where=f'{test.where}, row "{row.id}"', remedy=remedy)


def _check_router(out: str | Path | None) -> None:
    """Raise PomonaError where the router's file would replace what is none."""
    if out is not None and Path(out).exists():
        Router.load(out)
