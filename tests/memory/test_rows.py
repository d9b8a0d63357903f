"""A memory of rows: prompts are read by its form, rows of a table and added ones are searched, and
what was added outlives the process.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.memory import KeptRows, Phrases, Recall, RowMemory, open_memory
from pomona.memory.rows import PromptForm
from pomona.text import Nearest

FORM = "<|{group}|>{source}<|to|>"
TABLE = pa.table(
    {
        "english": ["Save page", "Delete page", "Save page"],
        "translation": ["Seite sichern", "Seite löschen", "Enregistrer la page"],
        "lang": ["de", "de", "fr"],
    }
)
COLUMNS = {"source": "english", "answer": "translation", "group": "lang", "form": FORM}


def answers(found: Recall) -> list[str]:
    return [row.answer for row in found.rows]


def test_prompts_are_read_by_their_form_and_searched_in_their_group() -> None:
    memory = open_memory(TABLE, **COLUMNS)
    found = memory.recall_now("<|de|>Save the page<|to|>", 5)
    assert found.source == "Save the page" and answers(found) == ["Seite sichern", "Seite löschen"]
    expected = Nearest(["Save page", "Delete page"]).search(["Save the page"], 2)
    assert [row.similarity for row in found.rows] == pytest.approx(expected.similarity[0])
    assert found.flops == expected.flops[0]
    assert found.rows[0].weight == pytest.approx(max(0, 10 * (found.rows[0].similarity - 0.1)))
    assert answers(memory.recall_now("<|fr|>Save<|to|>", 5)) == ["Enregistrer la page"]
    assert memory.recall_now("<|nl|>Save<|to|>", 5).rows == ()
    assert memory.recall_now("Save", 5) == Recall(None)
    everything = open_memory(TABLE, source="english", answer="translation", group="lang")
    assert len(everything.recall_now("Save page", 5).rows) == 3


@given(st.text(max_size=20), st.sampled_from(["de", "zh_Hans", ""]))
def test_a_form_reads_what_it_fills(source: str, group: str) -> None:
    form = PromptForm(FORM)
    assert form.read(form.filled(source, group)) == (source, group)


@pytest.mark.parametrize("form", ["no fields", "{source}{source}", "{source}: {other}", "{group}"])
def test_other_forms_are_refused(form: str) -> None:
    with pytest.raises(PomonaError, match=r"is no form of prompts — write \{source\} in it once"):
        PromptForm(form)


def test_rows_that_are_added_are_found_at_once_and_come_first(tmp_path: Path) -> None:
    memory = open_memory(TABLE, **COLUMNS, file=tmp_path / "rows.db", most=3)
    asked = "<|de|>Save page<|to|>"
    assert answers(memory.recall_now(asked, 1)) == ["Seite sichern"]
    number = memory.add("Save page", "Seite speichern", "de")
    found = memory.recall_now(asked, 2)
    assert answers(found) == ["Seite speichern", "Seite sichern"] and found.rows[0].id == number
    memory.add("Save page", "Seite abspeichern", "de")
    assert answers(memory.recall_now(asked, 2)) == ["Seite abspeichern", "Seite speichern"]
    elsewhere = KeptRows(tmp_path / "rows.db")  # another process
    elsewhere.add("Save page", "Seite merken", "de")
    assert answers(memory.recall_now(asked, 1)) == ["Seite merken"]
    with pytest.raises(PomonaError, match="there are 3 rows, as many as are kept — delete some"):
        memory.add("Save", "Sichern", "de")
    assert memory.of("other").add("Save", "Sichern", "de") == 4  # each owner has as many
    assert answers(memory.of("other").recall_now(asked, 1)) == ["Seite sichern"]
    assert not memory.of("other").delete(number) and memory.delete(number)
    assert not memory.delete(number)
    assert len(memory.recall_now(asked, 9).rows) == 4
    with pytest.raises(PomonaError, match="the answer is empty"):
        memory.add("Save", " ", "de")
    elsewhere.close()
    assert memory.kept is not None
    memory.kept.close()


def test_phrases_are_learned_from_added_rows_too_before_the_next_answer(tmp_path: Path) -> None:
    memory = open_memory(TABLE, **COLUMNS, file=tmp_path / "rows.db")
    asked = "<|de|>Save file<|to|>"
    assert memory.put_together_now("<|de|>Delete page<|to|>") == "Seite löschen"
    before = memory.put_together_now(asked)
    number = memory.add("Delete file", "Datei löschen", "de")
    pairs = [("Delete file", "Datei löschen"), *zip(*TABLE.slice(0, 2).columns[:2], strict=True)]
    phrases = Phrases(*([str(text) for text in side] for side in zip(*pairs, strict=True)))
    near, said = memory.recall_now(asked, 3).rows, [str(answer) for _, answer in pairs]
    places = [said.index(row.answer) for row in near]
    like = [row.similarity for row in near]
    made = phrases.candidates("Save file", places, like, edited=10, composed=3)
    assert memory.put_together_now(asked) == made[0].text != before
    assert memory.of("other").put_together_now(asked) == before
    memory.delete(number)
    assert memory.put_together_now(asked) == before
    assert memory.put_together_now("<|nl|>Save file<|to|>") == "Save file"  # nothing to make it of
    assert memory.put_together_now("Save file") is None
    with pytest.raises(PomonaError, match="memory: has no selector — learn one with `pomona samp"):
        memory.shortlist_now(asked, [])
    assert memory.kept is not None
    memory.kept.close()


def test_a_row_that_was_told_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    work = f"""
import os, signal
from pomona.memory import KeptRows
print(KeptRows({str(path)!r}).add("Save", "Sichern", "de"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", work], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "1\n")
    kept = KeptRows(path)
    memory = RowMemory(form=FORM, kept=kept)
    assert answers(memory.recall_now("<|de|>Save<|to|>", 1)) == ["Sichern"]
    kept.close()


def test_what_cannot_be_a_memory_is_named(tmp_path: Path) -> None:
    with pytest.raises(PomonaError, match="memory: there is no table — give a table of rows"):
        open_memory()
    with pytest.raises(PomonaError, match='"other"'):
        open_memory(TABLE, source="other")
    empty = pa.table({"source": ["a", None], "answer": ["b", "c"]})
    with pytest.raises(PomonaError, match="row 2: a column of the memory is null — fill it in"):
        open_memory(empty)
    with pytest.raises(PomonaError, match='there is no "text" — write answer, group, prompt, sou'):
        open_memory(TABLE, **COLUMNS, example="{text}")
    (tmp_path / "mine").write_text("text that is no database " * 9)
    with pytest.raises(PomonaError, match="is not a memory of rows"):
        KeptRows(tmp_path / "mine")
    with pytest.raises(PomonaError, match="takes no further rows — open it with a file"):
        open_memory(TABLE, **COLUMNS).add("a", "b")
