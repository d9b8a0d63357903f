"""`synthesize`: a recipe's rows, answered, checked and written."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pomona._version import __version__
from pomona.answers import open_store
from pomona.errors import GateFailed, PomonaError
from pomona.files import check_into, check_ours, json_text, remove_from, sweep, write_into
from pomona.places import check_outputs
from pomona.synth.checks import NearDuplicates
from pomona.synth.pipeline.asking import Asking
from pomona.synth.pipeline.forecast import (
    Forecast,
    bounds,
    chosen_rows,
    distinct,
    forecast,
    sampled,
)
from pomona.synth.pipeline.inputs import Input, InputRow, Survey
from pomona.synth.pipeline.journal import Journal
from pomona.synth.pipeline.judging import Judging, TestItems
from pomona.synth.pipeline.pool import Pool, licence_refused, parts_with_paths
from pomona.synth.pipeline.recipe import SynthRecipe, load_synth
from pomona.synth.pipeline.results import KIND, NAMES, Copies, Synthesized, write_tables
from pomona.synth.pipeline.routing import Guides
from pomona.synth.pipeline.tally import Counted, Tally
from pomona.synth.pipeline.window import Windows
from pomona.synth.steering import objectives_from, places
from pomona.synth.teachers import Assignment
from pomona.tasks import code_of
from pomona.workspace import Lock, Workspace, refuse_changed, stamp

_WINDOW = 256
_JOURNAL = 2  # goes up when windows say more: those of before are not gone on with
_PILOT, _PILOTS = (
    64,
    4,
)  # rows, and how many times as many rows there are at least, for a pilot that nobody asked for
_STORES = ("answers.db", "programs.db", "rewards.db")


class Progress(Protocol):
    """Told by a run what it does."""

    def forecast(self, told: Forecast) -> None:
        """What the run is expected to cost, before it begins."""
        ...

    def advance(self, done: int, total: int) -> None:
        """`done` of `total` rows are answered or rejected."""
        ...


class Silent:
    """Says nothing."""

    def forecast(self, told: Forecast) -> None:
        """What the run will cost."""

    def advance(self, done: int, total: int) -> None:
        """So many rows are done."""


def synthesize(
    recipe: str | Path,
    out: str | Path,
    *,
    licences: Sequence[str] | None = None,
    pilot: int | None = None,
    progress: Progress | None = None,
) -> Synthesized:
    """Answer the rows of a recipe by its teachers, and write what came of it: rows, rejects and a
    card.

    Rows in are rows out and rejects. A killed run goes on, and what was paid is not paid twice;
    the same command on a finished set tries again what failed.

    Args:
        recipe: The recipe, a YAML file.
        out: Folder of rows.parquet, rejects.parquet, preferences.jsonl, card.json and README.md.
        licences: Licences of answers and texts that are let through, such as Apache-2.0; "unknown"
            lets those through that nobody knows. Any when left out.
        pilot: Rows that are answered first, from which the costs of all are told; 64, where there
            are many, when left out. The run needs them anyway: their answers are kept.
        progress: Told the forecast, then the rows done.

    Raises:
        PomonaError: the recipe or a table is wrong, or OUT is something else. Nothing was asked.
        GateFailed: no row came out; the most frequent reasons are told.
        ResourceError: the disk is full.
    """
    with _opened(recipe, out, licences, pilot) as run, run.workspace().resumed() as work:
        result = run.answered(work, pilot, progress or Silent())
        run.refuse_changed()
        if result.tally.rows_out:
            result = _write(result, work, run.folder, run.recipe, run.tests)
    if not result.tally.rows_out:
        raise _nothing(result, recipe)
    return result


def expected(
    recipe: str | Path,
    out: str | Path,
    *,
    licences: Sequence[str] | None = None,
    pilot: int | None = None,
) -> Forecast:
    """What a recipe would cost: from a `pilot` of so many rows, whose answers are kept in OUT; or
    at most, where nothing is asked and nothing written. The arguments are those of `synthesize`.
    """
    if pilot:
        with _opened(recipe, out, licences, pilot) as run:
            return run.pilot(pilot)
    made = load_synth(recipe)
    rows = Input(made.data)
    _check(Path(out), [recipe, *rows.paths, *parts_with_paths(made)])
    with closing(Pool(made, Path(out), licences)) as pool:
        return bounds(made, pool, rows, _survey(rows, recipe))


@contextmanager
def _opened(
    recipe: str | Path, out: str | Path, licences: Sequence[str] | None, pilot: int | None
) -> Iterator[_Run]:
    """A run whose folder nobody else works in, with open teachers."""
    if pilot is not None and pilot < 0:
        raise PomonaError(f"a pilot of {pilot} rows", where="pilot", remedy="give 0 or more")
    made, folder = load_synth(recipe), Path(out)
    rows = Input(made.data)
    inputs = [recipe, *rows.paths, *parts_with_paths(made)]
    _check(folder, inputs)
    before = stamp(inputs)
    survey = _survey(rows, recipe)
    place = folder.resolve()
    lock = place.with_name(f".{place.name}.lock")
    with Lock(lock, doing="writing this set", where=folder, other="folder"):
        write_into(folder, {}, KIND)
        sweep(folder)
        with closing(Pool(made, folder, licences)) as pool:
            run = _Run(made, rows, survey, pool, folder, licences, inputs, before)
            with closing(run):
                yield run


def _survey(rows: Input, recipe: str | Path) -> Survey:
    survey = rows.survey()
    if not survey.count:
        raise PomonaError("there are no rows", where=recipe, remedy="change `data`")
    return survey


def _check(folder: Path, inputs: Sequence[str | Path]) -> None:
    """Raise PomonaError unless a set may be written into a folder."""
    check_outputs({"the set": folder}, inputs, folders=["the set"])
    check_ours(folder.resolve(), KIND)
    check_into(folder, NAMES)
    for name in _STORES:
        if (folder / name).is_dir():
            raise PomonaError("is no file", where=folder / name, remedy="take it away")
    if (folder / "answers.db").exists():
        open_store(folder / "answers.db").close()
    Workspace(folder / "work", {}).check()


@dataclass
class _Run:
    recipe: SynthRecipe
    rows: Input
    survey: Survey
    pool: Pool
    folder: Path
    licences: Sequence[str] | None
    inputs: Sequence[str | Path]
    before: Any

    def __post_init__(self) -> None:
        self.preparing, self.tests = Tally(), TestItems(self.recipe)
        self._began, self._counted = time.monotonic(), Counted()
        parts = (self.recipe.budget, self.preparing, None, self._began, self._counted)
        self._guides = Guides(self.recipe, self.pool, self.folder, Asking(self.pool, *parts))
        quota = self.recipe.steer.quota
        self._places = None
        if quota is not None:
            asked = [row.asked for row in self.rows.rows()]
            self._places = places(asked, quota, seed=self.recipe.seed)

    def close(self) -> None:
        """Close what rewards have open."""
        self._guides.close()

    def refuse_changed(self) -> None:
        """Raise PomonaError where an input has changed meanwhile."""
        refuse_changed(self.before, stamp(self.inputs), self.inputs[0])

    def workspace(self) -> Workspace:
        """Where finished windows are kept: of this recipe, these inputs, licences and judges."""
        waits = {"teachers": {"__all__": {"wait_for_server"}}}  # changes no answer
        recipe = self.recipe.model_dump(mode="json", by_alias=True, exclude=waits)
        plan = {"recipe": recipe, "inputs": self.before, "licences": self.licences}
        judges = [one.signature for one in objectives_from(self.recipe.steer.objectives)]
        if self.recipe.rewards is not None and self.recipe.rewards.function is not None:
            judges.append(code_of(self.recipe.rewards.function.name))
        made = {"judges": judges, "journal": _JOURNAL, "version": __version__}
        return Workspace(self.folder / "work", {**plan, **made})

    @cached_property
    def _apart(self) -> NDArray[np.bool_]:
        return distinct(self.recipe, self.rows, self.survey, self.tests)

    def _submit(self) -> None:
        """Hand what will be asked to teachers that take batches: rows that may turn out to be near
        copies of others are left out.
        """
        batched = {name for name, one in self.pool.teachers.items() if one.batch}
        if not batched:
            return
        wanted: dict[str, list[Assignment]] = {name: [] for name in batched}
        seen: Counter[str] = Counter()
        for window in self.rows.windows(_WINDOW):
            rows = [row.asked for row in window if self._asks(row, seen)]
            for row, names in zip(rows, self._guides.policy.ask(rows), strict=True):
                able = [n for n in names if n in self.pool.teachers]
                able = [n for n in dict.fromkeys(able) if self.pool.teachers[n].knows(row)]
                first = self._guides.policy.keep == "first"
                for name in batched.intersection(able[:1] if first else able):
                    wanted[name].append(row)
        Asking(self.pool, self.recipe.budget, Tally(), self.preparing).submit(wanted)

    def _asks(self, row: InputRow, seen: Counter[str]) -> bool:
        """Whether it is plain that a row will be asked about, of whose language `seen` were."""
        asked, limit = row.asked, self.recipe.limit
        wanted = (
            bool(asked.text.strip() and asked.lang)
            and (row.place >= len(self._apart) or bool(self._apart[row.place]))
            and licence_refused(row.licence, self.licences) is None
            and (self._places is None or self._places[asked.id] > 0)
            and (limit is None or seen[asked.lang] < limit)
        )
        seen[asked.lang] += wanted
        return wanted

    @property
    def recipe_text(self) -> dict[str, Any]:
        """The recipe as JSON has it."""
        return self.recipe.model_dump(mode="json", by_alias=True)

    def _windows(self, tally: Tally, counted: Counted) -> tuple[Windows, Judging, Asking]:
        """With the draws that are `counted`; rewards are paid for once in all."""
        guides, recipe = self._guides, self.recipe
        judging = Judging(recipe, guides.reward, tally, self.tests, self.licences, self._counted)
        asking = Asking(self.pool, recipe.budget, tally, self.preparing, self._began, counted)
        guides.asking = asking  # of whose budget rewards know what is left
        parts = (self.pool, self._guides.policy, asking, judging, tally)
        return Windows(self.recipe, *parts, self.licences, self._places), judging, asking

    def pilot(self, count: int, run: Tally | None = None) -> Forecast:
        """What so many rows tell of all; what they cost is noted as paid ahead of the `run`."""
        chosen = sampled(self.survey, count, self._apart)
        for teacher in self.pool.teachers.values():
            teacher.live = teacher.teacher is not None  # opened before the clock starts
        tally, began = Tally(), time.monotonic()
        windows, _, asking = self._windows(tally, Counted(self._counted.known))
        asking.drawn = []
        windows.take([*chosen_rows(self.rows, chosen)])
        seconds = time.monotonic() - began
        if run is not None:
            run.ahead, run.rewards, run.guessed = asking.costs(), tally.rewards, tally.guessed
            self._guides.forget()
        for teacher in self.pool.teachers.values():
            teacher.live = False
        limits = self.recipe.budget.model_dump(exclude_none=True)
        return forecast(self.survey, chosen, self._apart.mean(), tally, seconds, limits)

    def answered(self, work: Path, pilot: int | None, progress: Progress) -> Synthesized:
        """All windows, those that the journal has not answered now."""
        journal, tally, done = Journal(work / "windows.jsonl"), Tally(), 0
        for window in journal.windows():
            tally, done = Tally.from_json(window["tally"]), done + 1
        if pilot is None:
            batched = any(one.batch for one in self.pool.teachers.values())
            pilot = _PILOT if self.survey.count >= _PILOT * _PILOTS and not batched else 0
        # From the same rows at every start, or where there are answers already from none.
        expected = self.pilot(pilot, tally) if pilot and not done else None
        if expected is not None:
            progress.forecast(expected)
        self._submit()
        taking, judging, _ = self._windows(tally, self._counted)
        for window in journal.windows():
            self._counted.known.update(window["paid"])
            for row in window["rows"]:
                first = row["rank"] == 0
                judging.accept(row["lang"], row["text"], row["answer"], first=first)
        size = min(_WINDOW, self.recipe.stop.window)
        for window in islice(self.rows.windows(size), done, None):
            journal.add(taking.take(window))
            progress.advance(tally.rows_in, self.survey.count)
        licences = {name: one.licence for name, one in self.pool.teachers.items()}
        notes = (self.pool.absent, self.pool.notes, licences)
        return Synthesized(tally, self.preparing, self._signature(), self.recipe_text, *notes)

    def _signature(self) -> str:
        guides, recipe = self._guides, self.recipe
        parts = [
            f"teachers:{','.join(recipe.teachers)}",
            f"route:{guides.policy.name}",
            *([f"reward:{guides.reward.signature}"] if guides.reward else []),
            f"refill:{recipe.refill}",
            f"seed:{recipe.seed}",
            f"version:{__version__}",
        ]
        return "|".join(["synth", *parts])


def _write(
    result: Synthesized, work: Path, folder: Path, recipe: SynthRecipe, tests: TestItems
) -> Synthesized:
    tables = write_tables(Journal(work / "windows.jsonl"), work, recipe)
    result = replace(result, copies=_copies(tables["rows.parquet"], recipe, tests))
    if recipe.preferences is None:
        remove_from(folder, "preferences.jsonl")  # of a recipe that asked for them
    texts = {"card.json": json_text(result.to_json()), "README.md": result.readme()}
    write_into(folder, {**tables, **texts}, KIND)
    return result


def _copies(rows: Path, recipe: SynthRecipe, tests: TestItems) -> Copies:
    """Looked for anew in what is written: a card does not vouch for what was meant to happen."""
    alike, seen = recipe.checks.near_duplicates, dict[str, NearDuplicates]()
    near = of_test = count = 0
    columns = ["text", "lang", "answer", "rank"]
    for batch in pq.ParquetFile(rows).iter_batches(1024, columns=columns):
        first = [row for row in batch.to_pylist() if row["rank"] == 0]
        texts = [str(row["text"]) for row in first]
        count += len(first)
        of_test += sum(
            copy or tests.answered(row["answer"])
            for copy, row in zip(tests.alike(texts), first, strict=True)
        )
        if alike is None:
            continue
        for row in first:
            known = seen.setdefault(row["lang"], NearDuplicates(alike))
            both = f"{row['text']}\n{row['answer']}"
            near += known.nearest(both) is not None
            known.add(both)
    share = near / count if alike is not None and count else None
    return Copies(share, of_test if recipe.test else None)


def _nothing(result: Synthesized, recipe: str | Path) -> GateFailed:
    told = "; ".join(f"{count:,} × {reason}" for reason, count in result.reasons()[:5])
    return GateFailed(
        f"none of {result.tally.rows_in:,} rows came out: {told}",
        where=recipe,
        remedy="mend the most frequent reason; what was answered is kept in answers.db",
    )
