"""What every teacher is asked, and what comes back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pomona.errors import PomonaError, positive


@dataclass(frozen=True)
class Terms:
    """What a teacher may be used for, and at what cost. None is not known, of languages: any.

    languages: pairs (of the text, of the answer) that it knows. licence: of what it writes.
    price: money for a million prompt tokens and a million answer tokens. batch_price: that of
    requests in batches, the same where None. cpu_price: money for an
    hour of a processor. concurrency: rows of a model or processes of a program at once. timeout:
    seconds without a sign of life from a server, or of one process of a program.
    """

    languages: frozenset[tuple[str, str]] | None = None
    licence: str | None = None
    price: tuple[float, float] | None = None
    batch_price: tuple[float, float] | None = None
    cpu_price: float | None = None
    concurrency: int = 1
    timeout: float = 60.0

    def __post_init__(self) -> None:
        positive(self, "the terms of a teacher", "concurrency", "timeout")


@dataclass(frozen=True)
class Assignment:
    """A row for a teacher: `text` in the language `source_lang`, to be answered in `lang`.

    No teacher sees `reference`, what a human answered, nor `cluster`, which rows of one source
    share (the text itself where it is None): they are for validation. `original` is what `text` is
    a translation of, where a pivot asks.
    """

    id: str
    text: str
    source_lang: str
    lang: str
    reference: str | None = None
    cluster: str | None = None
    original: str | None = None


@dataclass(frozen=True)
class Lesson:
    """What a teacher wrote to the row `id`, at the draw `sample`. `unknown` counts the words that a
    program did not know, None where it does not say.
    """

    id: str
    text: str
    teacher: str
    licence: str | None
    finish_reason: str = "stop"
    unknown: int | None = None
    sample: int = 0


@dataclass(frozen=True)
class Candidate:
    """A lesson with its row: what rewards and objectives judge."""

    row: Assignment
    lesson: Lesson


@dataclass(frozen=True)
class Reject:
    """A row without a lesson: why, how the teacher ended, and what it wrote or said, cut short.
    `asked` says whether the teacher was asked at all.
    """

    id: str
    teacher: str
    reason: str
    finish_reason: str | None = None
    trace: str | None = None
    asked: bool = True


@dataclass(frozen=True)
class Usage:
    """What lessons cost when they were written, whenever that was; None is not known. `fresh` rows
    were written in this call, and are not from a store. `estimated` says that tokens were guessed
    from the texts, because the server did not count them.
    """

    fresh: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    flops: float | None = None
    money: float | None = None
    cpu_seconds: float | None = None
    estimated: bool = False

    def __add__(self, other: Usage) -> Usage:
        """Both together: not known is what either does not know."""

        def both(one: float | None, two: float | None) -> float | None:
            return None if one is None or two is None else one + two

        return Usage(
            self.fresh + other.fresh,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            both(self.flops, other.flops),
            both(self.money, other.money),
            both(self.cpu_seconds, other.cpu_seconds),
            self.estimated or other.estimated,
        )


@dataclass(frozen=True)
class Lessons:
    """One lesson or reject for each row that was given, in order."""

    rows: tuple[Lesson | Reject, ...]
    usage: Usage

    @property
    def taught(self) -> list[Lesson]:
        """Those with an answer."""
        return [row for row in self.rows if isinstance(row, Lesson)]

    @property
    def rejects(self) -> list[Reject]:
        """Those without."""
        return [row for row in self.rows if isinstance(row, Reject)]


class Teacher(Protocol):
    """Answers rows. A row that it cannot answer, for whatever reason, is a reject; only settings
    that no row could be answered with raise a PomonaError.
    """

    @property
    def name(self) -> str:
        """What rows and cards call it."""
        ...

    @property
    def terms(self) -> Terms:
        """Its languages, licence, costs and limits."""
        ...

    def teach(self, rows: Sequence[Assignment], sample: int = 0) -> Lessons:
        """A lesson or a reject for each row, in order. The draws of a row differ by `sample`; the
        first is the teacher's surest answer, and what can write nothing else rejects the others.
        """
        ...


def refusal(terms: Terms, row: Assignment, sample: int = 0, *, draws: bool = True) -> str | None:
    """Why a teacher on these terms is not asked about a row, or cannot draw more than once; None
    where it is asked.
    """
    if sample and not draws:
        return "writes the same at every draw"
    if not row.text.strip():
        return "the text is empty"
    if terms.languages is not None and (row.source_lang, row.lang) not in terms.languages:
        return f"does not go from {row.source_lang} to {row.lang}"
    return None


def check_ids(rows: Sequence[Assignment]) -> None:
    """Raise PomonaError where two rows have one id: one of them would be lost."""
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            remedy = "give every row an id of its own"
            raise PomonaError("is there twice", where=f'row "{row.id}"', remedy=remedy)
        seen.add(row.id)


def check_prompt(template: str, where: str) -> None:
    """Raise PomonaError for a template of prompts that no row can fill, or that shows none."""
    try:
        template.format(text="", source_lang="", lang="")
    except (KeyError, IndexError, ValueError) as error:
        remedy = "write {text}, {source_lang} and {lang} in it, and other braces twice"
        message = f"the prompt template has no place for {error}"
        raise PomonaError(message, where=where, remedy=remedy) from error
    if "{text}" not in template:
        remedy = "write {text} where the row goes"
        raise PomonaError("the prompt template has no {text}", where=where, remedy=remedy)


def fill(template: str, row: Assignment) -> str:
    """The prompt of a row, from a template with {text}, {source_lang} and {lang}."""
    return template.format(text=row.text, source_lang=row.source_lang, lang=row.lang)
