"""Models and pivots as teachers: nothing is paid twice, and every row is a lesson or a reject."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.batch_server import BatchServer

from pomona.answers import Budget, Submitted
from pomona.errors import PomonaError
from pomona.models import ModelError, Sampling
from pomona.models.http import NoBatches
from pomona.synth.teachers import (
    Assignment,
    Lesson,
    ModelTeacher,
    PivotTeacher,
    Program,
    ProgramTeacher,
    Reject,
    Terms,
    find_cells,
)

ROWS = [Assignment(str(at), f"text {at}", "en", "af") for at in range(12)]


def shout(request: Any, index: int, temperature: float) -> str:
    return str(request.messages[0]["content"]).upper()


def test_a_model_teaches_and_is_paid_once(tmp_path: Path, fake: Any) -> None:
    model = fake(shout)
    terms = Terms(licence="MIT", price=(1.0, 1.0), concurrency=3)
    teacher = ModelTeacher(model, "{source_lang}-{lang}: {text}", tmp_path / "kept.db", terms)
    first = teacher.teach(ROWS[:8])
    assert first.rows[2] == Lesson("2", "EN-AF: TEXT 2", "fake", "MIT")
    usage = first.usage
    assert (usage.fresh, usage.prompt_tokens, usage.completion_tokens) == (8, 80, 40)
    assert (usage.flops, usage.money, usage.cpu_seconds) == (12000.0, 30.0, None)
    again = teacher.teach(ROWS)
    assert again.usage.fresh == 4 and again.usage.prompt_tokens == 120 and len(model.made) == 12
    assert model.most_at_once <= 3


def test_a_model_that_is_down_rejects_rows_and_they_are_asked_next_time(
    tmp_path: Path, fake: Any
) -> None:
    model = fake(shout)
    model.broken = True
    teacher = ModelTeacher(model, "{text}", tmp_path / "kept.db")
    lessons = teacher.teach(ROWS)
    assert len(lessons.rejects) == 12 and model.calls == 5
    last = lessons.rejects[-1].reason
    assert last.startswith("not asked: 5 requests in a row failed, the last: fake: the server is")
    assert lessons.usage.money is None
    model.broken = False
    assert len(teacher.teach(ROWS).taught) == 12


def test_what_is_refused_for_every_row_is_asked_for_once(tmp_path: Path, fake: Any) -> None:
    class Refusing(fake):
        async def each(self, request: Any, samples: Any) -> Any:
            self.calls += 1
            error = ModelError("no top_k here", status=400)
            error.field = "top_k"
            raise error
            yield

    model = Refusing(shout)
    teacher = ModelTeacher(model, "{text}", tmp_path / "kept.db", Terms(concurrency=1))
    lessons = teacher.teach(ROWS)
    assert len(lessons.rejects) == 12 and model.calls == 1
    last = lessons.rejects[-1].reason
    assert last == 'not asked: "top_k" would be refused for every row: no top_k here'


def test_rows_past_a_budget_are_rejects_and_money_needs_a_price(tmp_path: Path, fake: Any) -> None:
    store = tmp_path / "kept.db"
    teacher = ModelTeacher(fake(shout), "{text}", store, budget=Budget(tokens=40))
    lessons = teacher.teach(ROWS)
    assert 1 <= len(lessons.taught) <= 4
    assert {row.reason for row in lessons.rejects} == {"the budget of tokens is spent"}
    with pytest.raises(PomonaError, match="a budget of money needs a price"):
        ModelTeacher(fake(), "{text}", store, budget=Budget(money=1))
    with pytest.raises(PomonaError, match=r"write \{text\} where the row goes"):
        ModelTeacher(fake(), "translate", store)
    with pytest.raises(PomonaError, match="no place for 'name'"):
        ModelTeacher(fake(), "{text} {name}", store)


def test_a_refusal_and_silence_are_rejects(tmp_path: Path, fake: Any) -> None:
    silent = fake(lambda *_: " ")
    lessons = ModelTeacher(silent, "{text}", tmp_path / "kept.db").teach(ROWS[:1])
    assert lessons.rows == (Reject("0", "fake", "wrote nothing", "stop", " "),)


TABLE = pa.table(
    {
        "lang": ["nl", "nl", "af", "nl", "af"],
        "english": ["Save", "Open", "Save", "Save", "Close"],
        "translation": ["Opslaan", "Openen", "Stoor", "Bewaren", "Maak toe"],
    }
)


def test_a_pivot_teaches_from_the_sister_language() -> None:
    cells = find_cells(TABLE, "af", "nl")
    assert cells.empty == {"Open": "Openen"} and cells.known == {"Save": ("Opslaan", "Stoor")}
    inner = ProgramTeacher("upper", Program(("tr", "a-z", "A-Z")), Terms(frozenset({("nl", "af")})))
    teacher = PivotTeacher(inner, "nl", cells.empty)
    asked = [Assignment("1", "Close", "en", "af"), Assignment("2", "Open", "en", "af")]
    assert teacher.teach(asked).rows == (
        Reject("1", "upper from nl", "there is no translation in nl", asked=False),
        Lesson("2", "OPENEN", "upper from nl", None),
    )


def test_a_table_without_the_column_or_the_sister_is_refused() -> None:
    with pytest.raises(PomonaError, match='column "source": there is no such column'):
        find_cells(TABLE, "af", "nl", source="source")
    with pytest.raises(PomonaError, match='language "nb": has no row'):
        find_cells(TABLE, "af", "nb")


def test_teachers_draw_as_they_are_told(tmp_path: Path, fake: Any) -> None:
    seen: list[Any] = []
    model, store = fake(lambda request, *_: seen.append(request) or "x"), tmp_path / "kept.db"
    sampling = Sampling(top_k=7, repetition_penalty=1.2, stop="END")
    ways: list[dict[str, Any]] = [{}, {"sampling": sampling}, {"sampling": sampling}]
    for how in ways:
        ModelTeacher(model, "{text}", store, **how).teach(ROWS[:1])
    assert [(one.top_k, one.repetition_penalty, one.stop) for one in seen] == [
        (0, 1.0, ()),
        (7, 1.2, ("END",)),
    ]
    with pytest.raises(PomonaError, match="min_p is 1 — use a number from 0 to below 1"):
        ModelTeacher(model, "{text}", store, sampling=Sampling(min_p=1))


def test_draws_differ_are_kept_apart_and_programs_have_one(tmp_path: Path, fake: Any) -> None:
    model = fake(lambda _, index, temperature: f"answer {index} at {temperature}")
    teacher = ModelTeacher(model, "{text}", tmp_path / "kept.db", temperature=0.5)
    for _ in range(2):
        drawn = [teacher.teach(ROWS[:1], sample).taught[0] for sample in (0, 2)]
        assert [lesson.text for lesson in drawn] == ["answer 0 at 0.0", "answer 2 at 0.5"]
        assert [lesson.sample for lesson in drawn] == [0, 2]
    assert len(model.made) == 2
    greedy = ModelTeacher(model, "{text}", tmp_path / "kept.db", temperature=0.0)
    program = ProgramTeacher("upper", Program(("tr", "a-z", "A-Z")))
    for single in (greedy, program):
        again = single.teach(ROWS[:1], sample=1)
        assert [row.reason for row in again.rejects] == ["writes the same at every draw"]


@pytest.fixture
def server() -> Iterator[BatchServer]:
    server = BatchServer()
    yield server
    server.stop()


def test_rows_go_in_batches_where_the_server_has_them_and_singly_where_not(
    server: BatchServer, tmp_path: Path
) -> None:
    terms = Terms(price=(2.0, 2.0), batch_price=(1.0, 1.0), concurrency=4)

    def teacher(name: str, **how: Any) -> ModelTeacher:
        store = tmp_path / name
        model = f"{server.base}#m"
        return ModelTeacher(model, "{text}", store, terms, **how)

    batches, singly = teacher("a.db", batch="auto"), teacher("a.db")
    for impatient in (batches, singly):  # what is under way is not paid twice either
        with pytest.raises(Submitted, match="12 requests are under way in 1 batch"):
            impatient.teach(ROWS)
    server.work(leave=2, status="cancelled")
    lessons = batches.teach(ROWS)
    assert [lesson.text for lesson in lessons.taught] == [f"TEXT {at}" for at in range(10)]
    assert "the batch was cancelled" in lessons.rejects[0].reason
    assert (lessons.usage.fresh, lessons.usage.money) == (10, pytest.approx(40e-6))
    assert server.seen["single"] == 0
    again = singly.teach(ROWS)
    assert (again.usage.fresh, server.seen["single"], len(again.taught)) == (2, 2, 12)
    few = teacher("d.db", batch=True)
    for _ in range(2):  # two draws of all rows, asked for in parts
        with pytest.raises(Submitted, match="24 requests are under way in 1 batch"):
            few.submit(ROWS, samples=(0, 1))
    server.work(leave=1, status="cancelled")
    few.submit(ROWS, samples=(0, 1))
    parts = [few.teach(ROWS[at : at + 4], sample) for sample in (0, 1) for at in (0, 4, 8)]
    assert [len(part.taught) for part in parts] == [4, 4, 4, 4, 4, 3]
    assert server.seen["POST /v1/batches"] == 2
    server.absent = {"/v1/files"}
    assert teacher("b.db", batch="auto").teach(ROWS).usage.fresh == 12
    with pytest.raises(NoBatches):
        teacher("c.db", batch=True).teach(ROWS)
