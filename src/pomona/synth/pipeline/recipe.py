"""What a recipe of `pomona synth run` may say. The field descriptions are its reference: they
become the JSON Schema.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from pomona.documents import StrictModel, problems, read_model
from pomona.models import resolve
from pomona.records import NamedRows, Names

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Above = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Cost = Annotated[float, Field(ge=0)]
Price = Annotated[list[Cost], Field(min_length=2, max_length=2)]


class Data(NamedRows):
    """The rows to be answered. What names a column may be left out where there is none."""

    text: Text = "text"
    """Column of the texts."""
    lang: Names = Field(default=["lang"])
    """Column of the language of the answer; or a language where no column has this name, or
    several, of which each row is answered in each.
    """
    source_lang: Text = "en"
    """Column of the language of the texts, or that language where no column has this name."""
    id: Text | None = None
    """Column of ids, which differ; the number of the row when left out."""
    reference: Text | None = None
    """Column of what humans answered, for rewards that know it; no teacher sees it."""
    cluster: Text | None = None
    """Column of what rows of one source share."""
    licence: Text | None = None
    """Column of the licence of the texts, or that licence where no column has this name."""
    limit_per_group: Positive | None = None
    """At most so many rows of a language, the first ones."""


class Test(NamedRows):
    """Rows of a test: no row that is answered is a near copy of one of their texts."""

    text: Text = "text"
    """Column of the texts."""


class Teacher(StrictModel):
    """What all teachers have."""

    licence: Text | None = None
    """Licence of what it writes; left out where it is not known."""
    languages: dict[Text, Names] | None = None
    """By language of a text the languages that it answers in; any when left out."""


class ModelTeacher(Teacher):
    """A model: a URI such as ui-m, hf:PATH, gguf:PATH or http://HOST/v1#NAME. A key for its server
    comes from the environment, POMONA_API_KEY.
    """

    model: Text
    """Its URI."""
    prompt: Text = "{text}"
    """Template with {text}, {source_lang} and {lang}."""
    raw: bool = False
    """Send the prompt as it is, without a chat template."""
    max_tokens: Positive = 128
    """Most tokens of an answer."""
    samples: Positive = 1
    """Answers to each row: the first is its surest, the others are drawn."""
    temperature: Above = 0.7
    """Temperature of the answers that are drawn."""
    min_p: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Tokens below this share of the likeliest one's probability are not drawn."""
    price: Price | None = None
    """Money for a million prompt tokens and for a million answer tokens: [0.15, 0.60]; [0, 0] where
    it costs none.
    """
    concurrency: Positive = 8
    """Rows under way at once."""
    timeout: Above = 120.0
    """Seconds without a sign of life from its server."""
    tokenizer: Text | None = None
    """Folder or tokenizer.json to count a server's tokens with."""


class Pivot(NamedRows):
    """A sister language's human translations, which a teacher translates in place of the text."""

    sister: Text
    """The sister language."""
    text: Text = "english"
    """Column of the texts that were translated."""
    translation: Text = "translation"
    """Column of the translations."""
    lang: Text = "lang"
    """Column of their languages."""


class Program(Teacher):
    """What all programs have."""

    pivot: Pivot | None = None
    """Where it starts from human translations into a sister language."""
    cpu_price: Cost | None = None
    """Money for an hour of a processor; 0 where it costs none."""
    concurrency: Positive = 1
    """Processes at once."""
    timeout: Above = 60.0
    """Seconds that one process may take."""


class ApertiumTeacher(Program):
    """A direction of Apertium. Where it is not installed it is named and left out."""

    apertium: Text
    """The direction, such as nld-afr."""
    package: Text
    """Debian's package that has it."""


class ProgramTeacher(Program):
    """A program that reads a line for each text and writes as many, without looking back."""

    program: Annotated[list[Text], Field(min_length=1)]
    """The command."""
    version: str = ""
    """Change it when the program does, and it writes its answers again."""


class TableTeacher(Teacher, NamedRows):
    """Answers that are there already, such as a translation memory. Its rows are a table's."""

    rows: Names = Field(alias="table")
    """Tables: the name "ui", a path or a glob, or a list of them."""
    text: Text = "text"
    """Column of the texts."""
    lang: Text = "lang"
    """Column of the language of the answers."""
    answer: Text = "answer"
    """Column of the answers."""
    licence: Text | None = None
    """Column of the licences of the answers, or that licence where no column has this name."""


_KINDS: dict[str, type[Teacher]] = {
    "model": ModelTeacher,
    "apertium": ApertiumTeacher,
    "program": ProgramTeacher,
    "table": TableTeacher,
}


def _kind(value: Any) -> str | None:
    if isinstance(value, Teacher):
        return next(kind for kind, one in _KINDS.items() if isinstance(value, one))
    named = [kind for kind in _KINDS if isinstance(value, dict) and kind in value]
    return named[0] if len(named) == 1 else None


AnyTeacher = Annotated[
    Annotated[ModelTeacher, Tag("model")]
    | Annotated[ApertiumTeacher, Tag("apertium")]
    | Annotated[ProgramTeacher, Tag("program")]
    | Annotated[TableTeacher, Tag("table")],
    Discriminator(
        _kind,
        custom_error_type="expected",
        custom_error_message=f"a mapping with one of {', '.join(_KINDS)}",
    ),
]


class Route(StrictModel):
    """Who answers a row."""

    by: Literal["single", "random", "all"] = "all"
    """single: one teacher. random: one of those that know its languages. all: every one, and the
    best is kept.
    """
    teacher: Text | None = None
    """The teacher of `single`; the first one when left out."""


class Budget(StrictModel):
    """Limits of what all answers cost, those of earlier starts counted: rows beyond are rejects."""

    tokens: Positive | None = None
    """Tokens of prompts and answers."""
    money: Above | None = None
    """Money, by the prices of the teachers, of whom each needs one."""
    seconds: Above | None = None
    """Seconds of this start."""
    flops: Above | None = None
    """Floating-point operations."""


class Stop(StrictModel):
    """When a teacher is asked no more."""

    window: Annotated[int, Field(ge=10, le=10_000)] = 100
    """Rows in a row that it was asked."""
    failures: Share = 0.5
    """Share of them that failed, or that a check refused."""


class Preferences(StrictModel):
    """Pairs of a better and a worse answer."""

    prompt: Text = "{text}"
    """Template of their prompt, with {text}, {source_lang} and {lang}."""


class SynthRecipe(StrictModel):
    """A recipe: what is answered, by whom, and what of it is kept."""

    seed: Count = 0
    """Seed of all that is drawn."""
    data: Data
    test: list[Test] = Field(default=[])
    """Tests whose items nothing may come near."""
    teachers: Annotated[dict[Text, AnyTeacher], Field(min_length=1)]
    """Who answers, by the names that rows and cards call them."""
    route: Route = Field(default=Route())
    refill: Count = 2
    """Further draws of a row's teachers where nothing that they wrote passes the checks."""
    budget: Budget = Field(default=Budget())
    stop: Stop = Field(default=Stop())
    alternatives: bool = False
    """Keep all answers of each row beside the one that is chosen."""
    preferences: Preferences | None = None
    """Write preferences.jsonl in TRL's format: of each row the best answer and the worst."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if several := list(self._mistakes()):
            raise problems(several)
        return self

    def _mistakes(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        named = self.route.teacher
        if named is not None and named not in self.teachers:
            yield ("route", "teacher"), f'there is no teacher "{named}"'
        for name, teacher in self.teachers.items():
            where = ("teachers", name)
            if isinstance(teacher, ModelTeacher) and "{text}" not in teacher.prompt:
                yield (*where, "prompt"), "the prompt template has no {text}"
            if self.budget.money is not None and not _priced(teacher):
                price = "price" if isinstance(teacher, ModelTeacher) else "cpu_price"
                yield where, f'a budget of money needs a {price} of the teacher "{name}"'
            if isinstance(teacher, ApertiumTeacher) and teacher.languages is None:
                yield where, f'"languages" is missing in teachers.{name}: such as {{nl: [af]}}'


def _priced(teacher: Teacher) -> bool:
    if isinstance(teacher, ModelTeacher):
        return teacher.price is not None
    return not isinstance(teacher, Program) or teacher.cpu_price is not None


def load_synth(path: str | Path) -> SynthRecipe:
    """Read and check a recipe; files that it names are relative to its folder.

    Raises PomonaError with a line for each mistake: file, line, what is wrong, and the nearest
    right name.
    """
    example = "examples/synthesis.yaml for a recipe"
    recipe = read_model(path, SynthRecipe, kind="recipe", example=example)
    return _placed(recipe, Path(path).parent)


def _placed(value: Any, folder: Path, key: str = "") -> Any:
    """A section with its paths made absolute."""
    if isinstance(value, StrictModel):
        fields = type(value).model_fields
        changed = {name: _placed(getattr(value, name), folder, name) for name in fields}
        return value.model_copy(update=changed)
    if isinstance(value, dict):
        return {name: _placed(one, folder) for name, one in value.items()}
    if isinstance(value, list):
        return [_placed(one, folder, key) for one in value]
    named = key in ("rows", "model", "tokenizer") and isinstance(value, str)
    return resolve(folder, value) if named else value


def synth_schema() -> dict[str, Any]:
    """The JSON Schema of a recipe, for editors and other programs."""
    schema = SynthRecipe.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Recipe"}
