"""The sections of a recipe that say which rows there are, and who the teachers are."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import Discriminator, Field, Tag

from pomona.documents import StrictModel
from pomona.errors import PomonaError
from pomona.models import BOUNDS, Sampling
from pomona.records import NamedRows, Names

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Above = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Cost = Annotated[float, Field(ge=0)]
Price = Annotated[list[Cost], Field(min_length=2, max_length=2)]


def refuse_lists(batch: pa.RecordBatch, where: str) -> None:
    """Raise PomonaError where a column of texts holds lists, or objects."""
    for column in batch.schema:
        if pa.types.is_nested(column.type):
            kind = "objects" if pa.types.is_struct(column.type) else "lists"
            remedy = "name a column of texts, or write one with a row for each of them"
            raise PomonaError(f'column "{column.name}" holds {kind}', where=where, remedy=remedy)


Mistakes = Iterator[tuple[tuple[str | int, ...], str]]


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
    answer: Text | None = None
    """Column of the answers, where nothing may come near them either."""


class Teacher(StrictModel):
    """What all teachers have."""

    licence: Text | None = None
    """Licence of what it writes; left out where it is not known."""
    languages: dict[Text, Names] | None = None
    """By language of a text the languages that it answers in; any when left out."""


def _bounded(name: str) -> Any:
    bounds = BOUNDS[name]
    low, high = "gt" if bounds.above else "ge", "lt" if bounds.below else "le"
    limits: dict[str, Any] = {low: bounds.low, high: bounds.high}
    return Field(**limits)


class Drawn(StrictModel):
    """How the answers of a model are drawn."""

    top_p: Annotated[float, _bounded("top_p")] = 1.0
    """Draw from the smallest set of likeliest tokens that has this probability."""
    min_p: Annotated[float, _bounded("min_p")] = 0.0
    """Tokens below this share of the likeliest one's probability are not drawn."""
    top_k: Annotated[int, _bounded("top_k")] = 0
    """Draw from so many of the likeliest tokens; 0 keeps all."""
    frequency_penalty: Annotated[float, _bounded("frequency_penalty")] = 0.0
    """Taken from a token's logit each time that the answer has it."""
    presence_penalty: Annotated[float, _bounded("presence_penalty")] = 0.0
    """Taken from a token's logit once the answer has it."""
    repetition_penalty: Annotated[float, _bounded("repetition_penalty")] = 1.0
    """Above 1, tokens of prompt and answer are less likely to come again."""
    stop: list[Text] = Field(default=[])
    """Texts before which an answer ends."""

    @property
    def sampling(self) -> Sampling:
        """The same, as requests have it."""
        names = Sampling.__dataclass_fields__.keys() & type(self).model_fields.keys()
        return Sampling(**{name: getattr(self, name) for name in names})


class ModelTeacher(Drawn, Teacher):
    """A model: a URI such as ui-m, hf:PATH, gguf:PATH or http://HOST/v1#NAME. A key for its server
    comes from the environment, POMONA_API_KEY_HOST or POMONA_API_KEY.
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
    price: Price | None = None
    """Money for a million prompt tokens and for a million answer tokens: [0.15, 0.60]; [0, 0] where
    it costs none.
    """
    batch_price: Price | None = None
    """The same for answers that come in batches; `price` when left out."""
    batch: bool | Literal["auto"] = False
    """Hand all rows to its server as batches; "auto": where the server has any. While they are
    under way the command ends with 75, and the same command collects them. Further draws of rows
    are asked one by one.
    """
    wait: Cost = 0.0
    """Seconds to wait for batches."""
    concurrency: Positive = 8
    """Rows under way at once."""
    timeout: Above = 120.0
    """Seconds without a sign of life from its server."""
    wait_for_server: Above | None = None
    """Seconds to wait for a server that takes no connections, such as one that is starting; about
    ten when left out.
    """
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
    return named_kind(value, _KINDS)


def named_kind(value: Any, kinds: Collection[str]) -> str | None:
    """Which of the kinds a mapping names by a key; where it names none the one that a key is most
    like, so that its mistake is told.
    """
    keys = [key for key in value if isinstance(key, str)] if isinstance(value, dict) else []
    named = [kind for kind in kinds if kind in keys]
    if not named:
        close = (difflib.get_close_matches(key, kinds, n=1, cutoff=0.7) for key in keys)
        named = list(dict.fromkeys(kind for found in close for kind in found))
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
