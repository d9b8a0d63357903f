"""Pivots: what humans translated into a sister language, as the text that a teacher translates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from pomona.errors import PomonaError, nearest
from pomona.synth.teachers.teacher import Assignment, Lesson, Lessons, Reject, Teacher, Terms


@dataclass(frozen=True)
class Cells:
    """The sources that a sister language has. `empty` are those that `lang` has not, with the
    sister's translation; `known` those that it has, with the sister's and its own.
    """

    lang: str
    sister: str
    empty: Mapping[str, str]
    known: Mapping[str, tuple[str, str]]


def find_cells(
    table: pa.Table,
    lang: str,
    sister: str,
    *,
    source: str = "english",
    translation: str = "translation",
    language: str = "lang",
) -> Cells:
    """What `sister` can fill in `lang`: sources are compared as they are, and of several
    translations of one source the first counts.

    Raises PomonaError when a column is missing, or a language has no row.
    """
    for column in (source, translation, language):
        if column not in table.column_names:
            remedy = nearest(column, table.column_names)
            raise PomonaError("there is no such column", where=f'column "{column}"', remedy=remedy)
    of: dict[str, dict[str, str]] = {lang: {}, sister: {}}
    columns = (table[name].to_pylist() for name in (language, source, translation))
    for spoken, said, translated in zip(*columns, strict=True):
        if spoken in of and said is not None and translated:
            of[spoken].setdefault(said, translated)
    for name, rows in of.items():
        if not rows and name == sister:
            known = sorted(set(filter(None, table[language].to_pylist())))
            remedy = nearest(name, known)
            raise PomonaError("has no row", where=f'language "{name}"', remedy=remedy)
    mine, hers = of[lang], of[sister]
    return Cells(
        lang,
        sister,
        {said: text for said, text in hers.items() if said not in mine},
        {said: (text, mine[said]) for said, text in hers.items() if said in mine},
    )


@dataclass(frozen=True)
class PivotTeacher:
    """A teacher that is asked with the sister language's human translation of a row's text; a row
    that has none is a reject.

    sister: the language of `translations`, which go from source to translation.
    """

    teacher: Teacher
    sister: str
    translations: Mapping[str, str]

    @property
    def name(self) -> str:
        """The teacher's, and what it starts from."""
        return f"{self.teacher.name} from {self.sister}"

    @property
    def terms(self) -> Terms:
        """The teacher's."""
        return self.teacher.terms

    def teach(self, rows: Sequence[Assignment], sample: int = 0) -> Lessons:
        """See `Teacher`."""
        asked = [
            replace(
                row, text=self.translations[row.text], source_lang=self.sister, original=row.text
            )
            for row in rows
            if row.text in self.translations
        ]
        lessons = self.teacher.teach(asked, sample)
        made = iter(lessons.rows)
        return Lessons(tuple(self._rows(rows, made)), lessons.usage)

    def _rows(
        self, rows: Sequence[Assignment], made: Iterator[Lesson | Reject]
    ) -> Iterator[Lesson | Reject]:
        for row in rows:
            if row.text in self.translations:
                yield replace(next(made), teacher=self.name)
            else:
                lacking = f"there is no translation in {self.sister}"
                yield Reject(row.id, self.name, lacking, asked=False)
