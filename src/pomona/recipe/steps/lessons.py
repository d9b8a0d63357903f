"""Which cells are empty, and what teachers write to them: from each a table of lessons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pomona.errors import PomonaError
from pomona.ledger import Meter
from pomona.recipe.steps import Cost, StepContext
from pomona.recipe.steps.pools import drawing, read_pools
from pomona.recipe.steps.results import read_result, read_rows, read_serving
from pomona.recipe.steps.scoring import make_task_items
from pomona.recipe.steps.tables import conditions, make_table, read_items, write_items
from pomona.synth.checks import NearDuplicates
from pomona.synth.routing import lot
from pomona.synth.teachers import (
    Assignment,
    Candidate,
    Lesson,
    PivotTeacher,
    Program,
    ProgramTeacher,
    Terms,
    apertium,
)
from pomona.tasks import Items, fields_of, items_from, source_of

NEAR = 0.8  # similarity from which a text is a near copy of one that is held out
SPENT = ("tokens", "flops", "money", "seconds")
_LESSONS = pa.schema(
    [
        ("id", pa.string()),
        ("sample", pa.int64()),
        ("text", pa.string()),
        ("reason", pa.string()),
        ("asked", pa.bool_()),
        ("unknown", pa.int64()),
        *((name, pa.float64()) for name in SPENT),
    ]
)


def hold_out(step: StepContext) -> Cost:
    """Items that nothing which is written may be near to."""
    # A step of its own: what works on the test items themselves is counted as answering them.
    return make_table(step)


def hold_out_task(step: StepContext) -> Cost:
    """The documents of a task of lm-evaluation-harness, likewise."""
    return make_task_items(step)


def held_out(step: StepContext) -> NearDuplicates:
    """The sources and answers of the step's inputs `held-…`."""
    index = NearDuplicates(NEAR)
    for name in sorted(step.inputs):
        if name.startswith("held-"):
            items = read_items(step.inputs[name])
            index.add_all(list(dict.fromkeys([*items.sources, *items.completions])), "a test item")
    return index


def find_empty(step: StepContext) -> Cost:
    """The cells without an answer: for each group to fill, the sources that only rows of other
    groups have, as items whose completion is empty; the first `limit` of them by lot. A near copy
    of what is held out is none.
    """
    from pomona import records

    p, known = step.params, read_items(step.inputs["known"])
    with Meter() as meter:
        table = [step.inputs[name] for name in sorted(step.inputs) if name.startswith("records")]
        rows = records.read([str(path) for path in table], on_error="drop")
        rows = conditions(rows, p["where"], rows.source.where)
        template = p["source"] or source_of(p["prompt"], p["group"])
        have = {(group, source) for group, source in zip(known.groups, known.sources, strict=True)}
        first = _first_of(rows.to_table(), template, p["groups"], p["group"])
        near = held_out(step).nearest_of(list(first))
        sources = [source for source, found in zip(first, near, strict=True) if found is None]
        cells = [
            {**first[source], p["group"]: group}
            for source in sources
            for group in p["fill"]
            if (group, source) not in have
        ]
        if not cells:
            message = "no cell is empty: the groups to fill have all sources that others have"
            raise PomonaError(message, where="levers.synthesis", remedy="fill other groups")
        items = _asked(cells, template, p)
        order = sorted(range(len(items)), key=lambda row: lot(p["seed"], items.ids[row]))
        write_items(step.out, items.take(sorted(order[: p["limit"]])))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def _first_of(
    table: pa.Table, template: str, groups: Sequence[str] | None, column: str
) -> dict[str, dict[str, Any]]:
    """Of every source its first row."""
    first: dict[str, dict[str, Any]] = {}
    for row in table.to_pylist():
        if groups is None or str(row[column]) in groups:
            first.setdefault(template.format_map(row), row)
    return first


def _asked(cells: Sequence[dict[str, Any]], template: str, p: Mapping[str, Any]) -> Items:
    """Cells as items. Their ids are of group and source, whatever they are asked with."""
    table = pa.Table.from_pylist(cells)
    items = items_from(table, template, template, p["group"], source=template, cluster=p["cluster"])
    prompt = {(str(row[p["group"]]), template.format_map(row)): row for row in cells}
    rows = (prompt[cell] for cell in zip(items.groups, items.sources, strict=True))
    asked = [p["prompt"].format_map(row) for row in rows]
    return replace(items, prompts=asked, completions=[""] * len(items))


def write_by_programs(step: StepContext) -> Cost:
    """What programs write to items: to each the first that knows its group, of its source or of
    what a sister group's row has for that source.
    """
    from pomona import records

    items, p = read_items(step.inputs["items"]), step.params
    table = [step.inputs[name] for name in sorted(step.inputs) if name.startswith("records")]
    sisters = {one["pivot"] for one in p["programs"] if one["pivot"]}
    with Meter() as meter:
        rows = conditions(records.read([*map(str, table)]), p["where"], "levers.synthesis")
        texts: dict[str, dict[str, str]] = {sister: {} for sister in sisters}
        template = p["source"] or source_of(p["prompt"], p["group"])
        for row in rows.to_table().to_pylist() if sisters else ():
            if str(row[p["group"]]) in sisters and (text := p["completion"].format_map(row)):
                texts[str(row[p["group"]])].setdefault(template.format_map(row), text)
        left = list(range(len(items)))
        told: dict[int, dict[str, Any]] = {}
        for one in p["programs"]:
            mine = [row for row in left if items.groups[row] == one["group"]]
            written = _programmed(step, one, items.take(mine), texts.get(one["pivot"]))
            found = dict(zip(mine, written, strict=True))
            told |= {row: each for row, each in found.items() if each["asked"] or row not in told}
            left = [row for row in left if not (row in found and found[row]["text"])]
    nobody = _lesson("", None, "no program knows its group", asked=False)
    whole = [{**told.get(row, nobody), "id": id_} for row, id_ in enumerate(items.ids)]
    _write_lessons(step.out, whole)
    seconds = sum(each["seconds"] or 0.0 for each in whole)
    return Cost(cpu_seconds=meter.cpu_seconds + seconds, wall_seconds=meter.wall_seconds)


def _programmed(
    step: StepContext, one: Mapping[str, Any], items: Items, texts: Mapping[str, str] | None
) -> list[dict[str, Any]]:
    teacher = teacher_of(one, step.scratch / "programs.db", step.runtime.threads)
    asked = PivotTeacher(teacher, one["pivot"], texts) if texts is not None else teacher
    rows = assignments(items)
    lessons = asked.teach(rows)
    ran = [row for row in rows if texts is None or row.text in texts]
    each = (lessons.usage.cpu_seconds or 0.0) / max(1, len(ran))
    known = {row.id for row in ran}
    return [
        _lesson(
            made.id,
            made.text if isinstance(made, Lesson) else None,
            None if isinstance(made, Lesson) else made.reason,
            asked=made.id in known,
            unknown=made.unknown if isinstance(made, Lesson) else None,
            tokens=0.0,
            flops=0.0,
            money=0.0,
            seconds=each if made.id in known else 0.0,
        )
        for made in lessons.rows
    ]


def teacher_of(one: Mapping[str, Any], store: Path | None, processes: int = 1) -> ProgramTeacher:
    """The program of a recipe's part."""
    if one["apertium"]:
        program, name = apertium(one["apertium"], one["package"]), f"apertium {one['apertium']}"
    else:
        program, name = Program(tuple(one["command"])), one["command"][0]
    return ProgramTeacher(name, program, Terms(concurrency=processes), store)


def take_written(step: StepContext) -> Cost:
    """The first so many answers that were drawn to each item as lessons, each with its part of what
    they cost; one that was cut is none.
    """
    items, p = read_items(step.inputs["items"]), step.params
    most, samples = p["max_new_tokens"], p["samples"]
    about, rows = read_pools(step.inputs["pools"], samples)
    lessons = []
    with Meter() as meter:
        for at, row in enumerate(rows):
            told = drawing(about, items.take([at]), [row])
            spent = {name: getattr(told, f"{name}_per_item") for name in SPENT}
            each: dict[str, Any] = {name: one and one / samples for name, one in spent.items()}
            for sample, (answer, tokens) in enumerate(
                zip(row["answers"], row["tokens"], strict=True)
            ):
                reason = f"the answer was cut at {most} tokens" if tokens >= most else None
                reason = reason or (None if answer.strip() else "wrote nothing")
                text = None if reason else answer.strip()
                lessons.append(_lesson(row["id"], text, reason, sample=sample, **each))
    _write_lessons(step.out, lessons)
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def take_put_together(step: StepContext) -> Cost:
    """The best of what was put together from a memory as lessons, each with its part of the
    cost.
    """
    steps = [step.inputs["made"], step.inputs["neighbours"]]
    rows = read_rows(step.inputs["made"] / "made.parquet", "id", "made").to_pylist()
    costs = [read_result(folder / "cost.json", Cost) for folder in steps]
    seconds = sum(cost.cpu_seconds or 0.0 for cost in costs) / len(rows)
    spent = {"tokens": 0.0, "flops": read_serving(steps[1]).flops_per_item, "money": 0.0}
    lessons = []
    for row in rows:
        best = next((one for one in row["made"] if one["text"].strip()), None)
        text, unknown = (best["text"], best["unknown"]) if best else (None, None)
        reason = None if best else "nothing can be put together"
        more = {**spent, "seconds": seconds, "unknown": unknown}
        lessons.append(_lesson(row["id"], text, reason, **more))
    _write_lessons(step.out, lessons)
    return Cost()


def take_answers(step: StepContext) -> Cost:
    """Answers that a table has, by group and source, as lessons that cost what it says."""
    from pomona import records

    items, p = read_items(step.inputs["items"]), step.params
    table = [step.inputs[name] for name in sorted(step.inputs) if name.startswith("records")]
    with Meter() as meter:
        rows = conditions(records.read([*map(str, table)]), p["where"], "levers.synthesis")
        columns = {p["group"], *fields_of(p["source"]), *fields_of(p["completion"])}
        columns |= set(p["spent"].values())
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for row in rows.require(*sorted(columns)).select(*sorted(columns)).to_table().to_pylist():
            found.setdefault((str(row[p["group"]]), p["source"].format_map(row)), row)
        lessons = []
        cells = zip(items.ids, items.groups, items.sources, strict=True)
        for id_, group, source in cells:
            row = found.get((group, source))
            text = p["completion"].format_map(row).strip() if row else ""
            spent = dict.fromkeys(SPENT, 0.0)
            spent |= {name: row[column] for name, column in p["spent"].items()} if row else {}
            reason = None if text else "is not in the table"
            lessons.append(_lesson(id_, text or None, reason, asked=bool(text), **spent))
        _write_lessons(step.out, lessons)
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def _lesson(
    id_: str,
    text: str | None,
    reason: str | None,
    *,
    sample: int = 0,
    asked: bool = True,
    unknown: int | None = None,
    **spent: float | None,
) -> dict[str, Any]:
    known: dict[str, Any] = {"id": id_, "sample": sample, "text": text, "reason": reason}
    known |= {"asked": asked, "unknown": unknown}
    return known | {name: spent.get(name) for name in SPENT}


def _write_lessons(folder: Path, lessons: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(lessons, _LESSONS), folder / "lessons.parquet")


def assignments(items: Items, *, references: bool = False) -> list[Assignment]:
    """Items as rows for teachers; with the completions as what humans answered."""
    columns = zip(
        items.ids, items.sources, items.groups, items.completions, items.clusters, strict=True
    )
    return [
        Assignment(id_, source, "", group, right if references else None, cluster)
        for id_, source, group, right, cluster in columns
    ]


@dataclass(frozen=True)
class Written:
    """What teachers wrote to rows: lessons by teacher and row, of each draw one, with their
    costs.
    """

    rows: Sequence[Assignment]
    lessons: Mapping[str, Mapping[str, list[dict[str, Any]]]]

    @classmethod
    def read(
        cls, step: StepContext, items: str, prefix: str, names: Iterable[str], *, references: bool
    ) -> Written:
        """By the step's inputs `items` and `prefix`NAME."""
        found: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for name in names:
            path = step.inputs[f"{prefix}{name}"] / "lessons.parquet"
            mine = found[name] = {}
            for row in read_rows(path, *_LESSONS.names).to_pylist():
                mine.setdefault(row["id"], []).append(row)
        return cls(assignments(read_items(step.inputs[items]), references=references), found)

    def drawn(self, teacher: str, row: Assignment) -> list[dict[str, Any]]:
        """What a teacher wrote to a row, a lesson a draw; none where it was not asked."""
        return [told for told in self.lessons[teacher][row.id] if told["asked"]]

    def candidate(self, teacher: str, row: Assignment, told: Mapping[str, Any]) -> Candidate | None:
        """A lesson as an answer to be judged."""
        if told["text"] is None:
            return None
        lesson = Lesson(
            row.id, told["text"], teacher, None, unknown=told["unknown"], sample=told["sample"]
        )
        return Candidate(row, lesson)

    def candidates(self) -> list[Candidate]:
        """What all teachers wrote."""
        every = (
            self.candidate(name, row, told)
            for row in self.rows
            for name in self.lessons
            for told in self.drawn(name, row)
        )
        return [one for one in every if one is not None]
