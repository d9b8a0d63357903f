"""The teachers of a recipe, opened: each with its name, its terms and its store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from pomona.answers import Budget
from pomona.errors import PomonaError
from pomona.models import Model, Spent, load, sampling_of, wait_for
from pomona.synth.pipeline.recipe import SynthRecipe
from pomona.synth.pipeline.sections import (
    AnyTeacher,
    ApertiumTeacher,
    ModelTeacher as ModelPart,
    Pivot,
    ProgramTeacher as ProgramPart,
    TableTeacher as TablePart,
    Teacher as TeacherPart,
    refuse_lists,
)
from pomona.synth.pipeline.tally import COSTS, TOKENS, UNKNOWN
from pomona.synth.teachers import (
    Assignment,
    Lessons,
    ModelTeacher,
    PivotTeacher,
    Program,
    ProgramTeacher,
    TableTeacher,
    Teacher,
    Terms,
    apertium,
    find_cells,
)


@dataclass
class PoolTeacher:
    """A teacher by the name that a recipe gives it. `make` opens it when it is first asked;
    `languages` are pairs of a text's and an answer's, None any. `asks` is all that its answers to a
    row depend on; two teachers may ask the same. `apart` is where it works, if that
    is elsewhere: a process of its own, or a model of a server; `batch` says that it takes all rows
    at once, but for the time when it is `live`.
    """

    name: str
    licence: str | None
    languages: frozenset[tuple[str, str]] | None
    make: Callable[[], Teacher]
    asks: str
    samples: int = 1
    pivot: str | None = None
    apart: str | None = None
    batch: bool = False
    live: bool = False

    @cached_property
    def teacher(self) -> Teacher:
        """The teacher, opened."""
        return self.make()

    def knows(self, row: Assignment) -> bool:
        """Whether it goes from the row's language to that of its answer."""
        spoken = self.pivot or row.source_lang
        return self.languages is None or (spoken, row.lang) in self.languages

    def teach(self, rows: Sequence[Assignment], sample: int, budget: Budget | None) -> Lessons:
        """The lessons under the teacher's name here, within a budget where it is a model."""
        teacher = self.teacher
        if isinstance(teacher, ModelTeacher):
            # Further draws are few, and each would wait for a batch of its own.
            later = self.live or sample >= self.samples
            teacher = replace(teacher, budget=budget, batch=not later and teacher.batch)
        lessons = teacher.teach(rows, sample)
        named = tuple(replace(one, teacher=self.name) for one in lessons.rows)
        return replace(lessons, rows=named)

    def submit(self, rows: Sequence[Assignment], budget: Budget | None) -> None:
        """Hand all rows that will be asked about to its server. Submitted while any are under
        way.
        """
        teacher = self.teacher
        assert isinstance(teacher, ModelTeacher), "models alone have batches"
        replace(teacher, budget=budget).submit(rows, range(self.samples))

    def at_most(self, rows: Sequence[Assignment]) -> dict[str, float | None]:
        """What answers of full length to rows cost; nothing of a table, not known of a program."""
        teacher = self.teacher
        if not isinstance(teacher, ModelTeacher):
            known = 0 if isinstance(teacher, TableTeacher) else None
            costs: dict[str, float | None] = {
                name: 0 if name in TOKENS else known for name in COSTS
            }
            return costs | ({"money": 0} if teacher.terms.cpu_price == 0 else {})
        model, spent = teacher.model, Spent()
        assert not isinstance(model, str)
        for row in rows:
            tokens = model.tokens(teacher.request(row))
            spent += model.cost(tokens, teacher.max_tokens, self.samples)
        return {
            "prompt_tokens": spent.prompt_tokens,
            "completion_tokens": spent.completion_tokens,
            "flops": spent.flops or None,
            "money": None if teacher.terms.price is None else spent.money,
            "cpu_seconds": None,
        }

    def answers(self, rows: Sequence[Assignment]) -> list[tuple[Assignment, int]]:
        """The rows that it knows, each with the most tokens of every answer; those of what is no
        model are about as long as the text.
        """
        teacher, mine = self.teacher, [row for row in rows if self.knows(row)]
        if isinstance(teacher, ModelTeacher):
            return [(row, teacher.max_tokens) for row in mine for _ in range(self.samples)]
        return [(row, len(row.text.encode())) for row in mine]

    def rewrite(self, rows: Sequence[Assignment], budget: Budget | None) -> Lessons:
        """The answers to rows whose texts are all that the model is sent."""
        assert isinstance(self.teacher, ModelTeacher), "a recipe lets models alone rephrase"
        terms = replace(self.teacher.terms, languages=None)  # a recipe names it for this
        plain = replace(self.teacher, prompt="{text}", terms=terms, budget=budget, batch=False)
        lessons = plain.teach(rows)
        named = tuple(replace(one, teacher=self.name) for one in lessons.rows)
        return replace(lessons, rows=named)


class Pool:
    """The teachers that answer. `absent` are those that are not, with the reason; `notes` say what
    is not known of the others.

    licences: those that are let through, None any. Raises PomonaError where nobody is left.
    """

    def __init__(
        self, recipe: SynthRecipe, folder: Path, licences: Sequence[str] | None = None
    ) -> None:
        self._recipe, self._folder = recipe, folder
        self._models: list[Model] = []
        self.absent: dict[str, str] = {}
        self.notes: list[str] = []
        self.teachers: dict[str, PoolTeacher] = {}
        for name, part in recipe.teachers.items():
            reason = self._lacking(part) or licence_refused(part.licence, licences)
            if isinstance(part, TablePart):  # its rows have licences of their own
                reason = self._lacking(part)
            if reason is None:
                self.teachers[name] = self._made(name, part)
            else:
                self.absent[name] = reason
        if not self.teachers:
            told = "; ".join(f"{name} {reason}" for name, reason in self.absent.items())
            remedy = "add a teacher, or let its licence through"
            raise PomonaError(f"no teacher is left: {told}", where="teachers", remedy=remedy)
        for name, teacher in self.teachers.items():
            if teacher.licence is None and not isinstance(recipe.teachers[name], TablePart):
                self.notes.append(f"the licence of what {name} writes is not known")

    def close(self) -> None:
        """Give back the models."""
        for model in self._models:
            wait_for(model.close())

    def _lacking(self, part: AnyTeacher) -> str | None:
        return (
            self._program(part).missing if isinstance(part, ApertiumTeacher | ProgramPart) else None
        )

    def _made(self, name: str, part: AnyTeacher) -> PoolTeacher:
        pairs = _pairs(part.languages)
        if isinstance(part, ModelPart):
            make = lambda: self._model(part)  # noqa: E731
            apart = part.model if part.model.startswith(("http://", "https://")) else None
            asks = repr((part.model, part.prompt, part.raw, part.max_tokens, part.temperature))
            others = sampling_of(replace(part.sampling, min_p=0.0))
            asks += f" {part.min_p}" + (f" {others}" if others else "")
            return PoolTeacher(
                name, part.licence, pairs, make, asks, part.samples, None, apart, bool(part.batch)
            )
        if isinstance(part, TablePart):
            return PoolTeacher(name, part.licence, pairs, lambda: _table(name, part), name)
        make = lambda: self._programmed(name, part, pairs)  # noqa: E731
        pivot = part.pivot.sister if part.pivot else None
        return PoolTeacher(name, part.licence, pairs, make, name, pivot=pivot, apart=name)

    def _model(self, part: ModelPart) -> ModelTeacher:
        price = _price(part.price)
        model = load(
            part.model,
            concurrency=part.concurrency,
            timeout=part.timeout,
            price=price,
            tokenizer=part.tokenizer,
            wait_for_server=part.wait_for_server,
        )
        self._models.append(model)
        return ModelTeacher(
            model,
            part.prompt,
            self._folder / "answers.db",
            Terms(
                _pairs(part.languages),
                part.licence,
                price=price,
                batch_price=_price(part.batch_price),
                concurrency=part.concurrency,
                timeout=part.timeout,
            ),
            raw=part.raw,
            max_tokens=part.max_tokens,
            temperature=part.temperature,
            sampling=part.sampling,
            seed=self._recipe.seed,
            batch=part.batch,
            wait=part.wait,
        )

    def _programmed(
        self,
        name: str,
        part: ApertiumTeacher | ProgramPart,
        pairs: frozenset[tuple[str, str]] | None,
    ) -> Teacher:
        terms = Terms(
            pairs,
            part.licence,
            cpu_price=part.cpu_price,
            concurrency=part.concurrency,
            timeout=part.timeout,
        )
        store = self._folder / "programs.db"
        teacher = ProgramTeacher(name, self._program(part), terms, store)
        if part.pivot is None:
            return teacher
        return PivotTeacher(teacher, part.pivot.sister, _translations(part.pivot))

    @staticmethod
    def _program(part: ApertiumTeacher | ProgramPart) -> Program:
        if isinstance(part, ApertiumTeacher):
            return apertium(part.apertium, part.package)
        return Program(tuple(part.program), version=part.version)


def licence_refused(licence: str | None, allowed: Sequence[str] | None) -> str | None:
    """Why a licence is not let through, None where it is; "unknown" lets those through that nobody
    knows.
    """
    if allowed is None:
        return None
    through = {one.casefold() for one in allowed}
    if all(one.casefold() in through for one in (licence or UNKNOWN).split(" AND ")):
        return None
    if licence is None:
        return "has no known licence, and --licences does not let unknown ones through"
    return f"is under {licence}, which --licences does not let through"


def _price(given: Sequence[float] | None) -> tuple[float, float] | None:
    return None if given is None else (given[0], given[1])


def _pairs(languages: Mapping[str, Sequence[str]] | None) -> frozenset[tuple[str, str]] | None:
    if languages is None:
        return None
    return frozenset((spoken, lang) for spoken, langs in languages.items() for lang in langs)


def _translations(pivot: Pivot) -> dict[str, str]:
    records = pivot.read().require(pivot.text, pivot.translation, pivot.lang)
    table = records.select(pivot.text, pivot.translation, pivot.lang).to_table()
    cells = find_cells(
        table,
        "",
        pivot.sister,
        source=pivot.text,
        translation=pivot.translation,
        language=pivot.lang,
    )
    return dict(cells.empty)


def _table(name: str, part: TablePart) -> TableTeacher:
    records = part.read().require(part.text, part.lang, part.answer)
    licence = part.licence
    columns = [part.text, part.lang, part.answer]
    if licence in records.column_names:
        columns.append(licence)
    answers: dict[tuple[str, str], list[tuple[str, str | None]]] = {}
    for batch in records.select(*columns).batches():
        refuse_lists(batch, f"teachers.{name}, {records.source.where}")
        for row in batch.to_pylist():
            if row[part.answer]:
                own = row.get(licence, licence)
                known = answers.setdefault((str(row[part.text]), str(row[part.lang])), [])
                if (row[part.answer], own) not in known:
                    known.append((row[part.answer], own))
    return TableTeacher(name, answers, Terms(_pairs(part.languages), None))


def parts_with_paths(recipe: SynthRecipe) -> list[str]:
    """The files that a recipe reads, beside its rows."""
    parts = [*recipe.test, *(one for one in recipe.teachers.values() if isinstance(one, TablePart))]
    parts += [pivot for one in recipe.teachers.values() if (pivot := _pivot(one)) is not None]
    paths = [path for part in parts for path in part.read().paths]
    if recipe.validation is not None:
        paths += recipe.validation.read().paths
    return [*paths, *([recipe.route.router] if recipe.route.router is not None else [])]


def _pivot(part: TeacherPart) -> Pivot | None:
    return part.pivot if isinstance(part, ApertiumTeacher | ProgramPart) else None
