"""Translation back, compared with the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from pomona.synth.rewards.comparing import readable, sentence_scores
from pomona.synth.rewards.reward import Floats, Key, key_of
from pomona.synth.teachers import Assignment, Candidate, Lesson, Teacher, Usage

_Way = tuple[str, str, str]  # a text, its language, and the one to translate to


@dataclass
class RoundTrip:
    """The metric of a row's text with what `teacher` makes of an answer, in the language of the
    text.

    lang: the language to translate back to, that of the text when left out. texts: what a row's
    text says in `lang`, such as a human's translation into a sister language; a row that has none
    is NaN. What the teacher cannot translate is NaN and a failure.
    """

    teacher: Teacher
    metric: str | Mapping[str, Any] = "chrf"
    lang: str | None = None
    texts: Mapping[str, str] | None = None
    name: str = "round_trip"
    failures: dict[Key, str] = field(default_factory=dict)
    _spent: list[Usage] = field(default_factory=list)
    _back: dict[_Way, Lesson] = field(default_factory=dict)

    def __post_init__(self) -> None:
        readable(self.metric)

    @property
    def signature(self) -> str:
        """See `Reward`."""
        back = f"{self.teacher.name}|{self.lang or 'the language of the text'}"
        return f"round_trip|{back}|{readable(self.metric).signature}|version:1"

    @property
    def usage(self) -> Usage:
        """See `Reward`."""
        nothing = Usage(flops=0.0, money=0.0, cpu_seconds=0.0)
        return reduce(add, self._spent) if self._spent else nothing

    def fit(self, candidates: Sequence[Candidate]) -> RoundTrip:
        """See `Reward`."""
        return self

    def score(self, candidates: Sequence[Candidate]) -> Floats:
        """See `Reward`. An answer that several teachers gave, or that was judged before, is
        translated once.
        """
        sources = [self._source(one) for one in candidates]
        asked: dict[_Way, Assignment] = {}
        for one, source in zip(candidates, sources, strict=True):
            what = self._way(one)
            if source is not None and what not in self._back:
                asked.setdefault(what, Assignment(str(len(asked)), *what))
        failed: dict[_Way, str] = {}
        if asked:
            lessons = self.teacher.teach([*asked.values()])
            self._spent.append(lessons.usage)
            for what, told in zip(asked, lessons.rows, strict=True):
                if isinstance(told, Lesson):
                    self._back[what] = told
                else:
                    failed[what] = told.reason
        scores = np.full(len(candidates), np.nan)
        places: list[int] = []
        texts: list[str] = []
        for at, one in enumerate(candidates):
            if sources[at] is None:
                continue
            way = self._way(one)
            if way in self._back:
                places.append(at)
                texts.append(self._back[way].text)
                self.failures.pop(key_of(one), None)
            else:
                self.failures[key_of(one)] = failed[way]
        scores[places] = sentence_scores(
            readable(self.metric), texts, [sources[at] or "" for at in places]
        )
        return scores

    def forget(self) -> None:
        """Ask the teacher again for what it was asked: it may count who asks."""
        self._back.clear()

    def _way(self, candidate: Candidate) -> _Way:
        row = candidate.row
        return candidate.lesson.text, row.lang, self.lang or row.source_lang

    def _source(self, candidate: Candidate) -> str | None:
        text = candidate.row.text
        return text if self.texts is None else self.texts.get(text)
