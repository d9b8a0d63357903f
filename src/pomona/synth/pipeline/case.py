"""A row under way, and what files have of it in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pomona.synth.pipeline.inputs import InputRow
from pomona.synth.teachers import Candidate, Reject

NOBODY = ""  # the teacher of a reject that no teacher was asked about
_TRACE = 200


@dataclass(frozen=True)
class Refused(Reject):
    """An answer that was not taken. `check` is what cards count it as; `fault` says whether its
    teacher is to blame, and not that others wrote the like before.
    """

    check: str = ""
    fault: bool = True


@dataclass
class Case:
    """A row under way: who may be asked, what they wrote, what was wrong with it, and the end.

    wanted: answers to keep of it. route: its teachers, in order; `asked` of them were. drafts: by
    the place of a candidate that rewrites another, that one's. scores: by place, what is known.
    """

    row: InputRow
    wanted: int = 1
    route: Sequence[str] = ()
    asked: int = 0
    candidates: list[Candidate] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)
    scores: dict[int, float] = field(default_factory=dict)
    drafts: dict[int, int] = field(default_factory=dict)
    kept: list[int] = field(default_factory=list)
    seen: int = 0
    reject: Reject | None = None

    @property
    def open(self) -> bool:
        """Whether it may still have more answers."""
        return self.reject is None and len(self.kept) < self.wanted

    @property
    def lang(self) -> str:
        """The language of its answers."""
        return self.row.asked.lang

    def turn(self, at: int) -> int:
        """The place in the route of a candidate's teacher; after all others where it has none."""
        teacher = self.candidates[at].lesson.teacher
        return self.route.index(teacher) if teacher in self.route else len(self.route)

    def refuse(self, at: int, check: str, why: str, *, fault: bool = True) -> None:
        """Take a candidate away."""
        self.refused.add(at)
        lesson = self.candidates[at].lesson
        told = f"{check}: {why}" if why else check
        trace = lesson.text[:_TRACE]
        made = Refused(
            lesson.id, lesson.teacher, told, lesson.finish_reason, trace, True, check, fault
        )
        self.rejects.append(made)

    def failed(self, teacher: str) -> bool | None:
        """Whether all that a teacher was asked for failed; None where it was asked nothing."""
        wrote = [at for at, one in enumerate(self.candidates) if one.lesson.teacher == teacher]
        mine = [one for one in self.rejects if one.teacher == teacher and _failed(one)]
        if not wrote and not mine:
            return None
        faults = sum(isinstance(one, Refused) and one.fault for one in mine)
        return len(wrote) <= faults

    def replied(self, teacher: str) -> bool:
        """Whether a teacher wrote anything, be it refused."""
        return any(one.lesson.teacher == teacher for one in self.candidates) or any(
            one.teacher == teacher and one.finish_reason is not None for one in self.rejects
        )

    def lost(self) -> Reject:
        """Why there is no answer: what became of the last that was written, or else of the first
        that was asked.
        """
        refused = [one for one in self.rejects if isinstance(one, Refused)]
        asked = [one for one in self.rejects if one.asked]
        return [*refused[-1:], *asked, *self.rejects][0]


def _failed(reject: Reject) -> bool:
    """Whether a reject is a failure: also of a row that was not asked about since others failed."""
    return reject.asked or reject.reason.startswith(("not asked: ", "not tried: "))


def rows_of(case: Case, *, alternatives: bool) -> list[dict[str, Any]]:
    """The answers that are kept of a case, as files have them."""
    asked = case.row.asked
    made: list[dict[str, Any]] = []
    for rank, at in enumerate(case.kept):
        lesson = case.candidates[at].lesson
        draft = case.drafts.get(at)
        row: dict[str, Any] = {
            "id": asked.id,
            "text": asked.text,
            "source_lang": asked.source_lang,
            "lang": asked.lang,
            "answer": lesson.text,
            "rank": rank,
            "reward": case.scores.get(at),
            "teacher": lesson.teacher,
            "drafted_by": None if draft is None else case.candidates[draft].lesson.teacher,
            "licence": lesson.licence,
            "source_licence": case.row.licence,
            "sample": lesson.sample,
            "finish_reason": lesson.finish_reason,
            "unknown_words": lesson.unknown,
            "reference": asked.reference,
            "cluster": asked.cluster,
        }
        if alternatives:
            others = [one for one in range(len(case.candidates)) if one not in case.kept]
            row["alternatives"] = [_other(case, one) for one in others] if rank == 0 else []
        made.append(row)
    return made


def _other(case: Case, at: int) -> dict[str, Any]:
    lesson = case.candidates[at].lesson
    return {
        "answer": lesson.text,
        "reward": case.scores.get(at),
        "teacher": lesson.teacher,
        "licence": lesson.licence,
        "sample": lesson.sample,
    }


def reject_of(case: Case, reject: Reject) -> dict[str, Any]:
    """A reject, as files have it, with all attempts at it."""
    asked = case.row.asked
    parts = ("teacher", "reason", "finish_reason", "trace")
    named = {
        "id": asked.id,
        "text": asked.text,
        "source_lang": asked.source_lang,
        "lang": asked.lang,
    }
    made = {name: getattr(reject, name) for name in parts}
    attempts = [{name: getattr(one, name) for name in parts} for one in case.rejects]
    return {**named, **made, "teacher": reject.teacher or None, "attempts": attempts}


def preference_of(case: Case, prompt: str) -> dict[str, Any] | None:
    """The answer of a case and its worst one, in TRL's format; None where they do not differ."""
    if not case.kept:
        return None
    best = case.kept[0]
    known = case.scores
    if best not in known:
        return None
    worst = min(known, key=lambda at: (known[at], at))
    chosen, rejected = (case.candidates[at].lesson for at in (best, worst))
    if known[worst] >= known[best] or chosen.text.strip() == rejected.text.strip():
        return None
    return {
        "prompt": prompt,
        "chosen": chosen.text,
        "rejected": rejected.text,
        "id": case.row.asked.id,
        "lang": case.lang,
        "chosen_teacher": chosen.teacher,
        "rejected_teacher": rejected.teacher,
        "chosen_reward": known[best],
        "rejected_reward": known[worst],
    }
