"""Rows in are rows out and rejects, whatever teachers do and whenever a run is killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pomona.cli import main
from pomona.errors import GateFailed, PomonaError
from pomona.synth.pipeline import synthesize
from pomona.synth.pipeline.run import Silent

Written = Callable[..., Path]


def table(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


M = "teachers: {m: {model: m, licence: MIT, languages: {en: [af]}, price: [1, 2]}}\n"


def test_rows_in_are_rows_out_and_rejects(
    tmp_path: Path, written: Written, models: dict[str, Any]
) -> None:
    result = synthesize(written(M), tmp_path / "o")
    rows, rejects = (table(tmp_path / "o" / f"{name}.parquet") for name in ("rows", "rejects"))
    assert [row["id"] for row in rows] == [f"r{at}" for at in range(0, 12, 2)]
    assert rows[1]["answer"] == "TEXT 2" and rows[1]["licence"] == "MIT"
    assert {row["reason"] for row in rejects} == {"no teacher goes from en to be"}
    card = json.loads((tmp_path / "o" / "card.json").read_text())
    assert card == json.loads(json.dumps(result.to_json()))
    assert (card["rows_in"], card["rows_out"], card["rejects"]) == (12, 6, 6)
    assert card["teachers"]["m"]["money"] == 6 * 0.25 * 15 and card["cost"]["cpu_seconds"] is None
    assert card["source_licences"] == {"unknown": 6}
    # What was paid is not paid again, and nothing changes.
    before = {path.name: path.read_bytes() for path in (tmp_path / "o").glob("*.parquet")}
    synthesize(tmp_path / "r.yaml", tmp_path / "o")
    assert len(models["m"].made) == 6
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "o").glob("*.parquet")}


def test_a_teacher_that_always_fails_or_writes_garbage_does_not_stop_the_run(
    tmp_path: Path, written: Written, models: dict[str, Any], fake: Any
) -> None:
    models["down"] = fake(name="down")
    models["down"].broken = True
    recipe = written(
        "teachers:\n"
        "  down: {model: down}\n"
        "  lost: {program: [sh, -c, 'exit 3']}\n"
        "  m: {model: m}\n"
        "stop: {window: 10}\n",
        rows=40,
    )
    result = synthesize(recipe, tmp_path / "o")
    card = result.to_json()
    assert (card["rows_in"], card["rows_out"]) == (40, 40)
    down = card["teachers"]["down"]
    assert down["stopped"] == "10 of 10 rows in a row failed" and down["asked"] <= 16
    assert down["rows"] == 0 and down["money"] == 0
    assert "not asked: 10 of 10 rows in a row failed" in down["not_asked"]


def test_no_row_out_is_an_error_with_the_most_frequent_reasons(
    tmp_path: Path, written: Written, models: dict[str, Any]
) -> None:
    models["m"].say = lambda *_: " "
    with pytest.raises(GateFailed) as caught:
        synthesize(written(M), tmp_path / "o")
    assert "none of 12 rows came out: " in str(caught.value)
    assert "6 × m: wrote nothing" in str(caught.value)
    assert not (tmp_path / "o" / "rows.parquet").exists()


def test_a_killed_run_goes_on_where_it_was(
    tmp_path: Path, written: Written, models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = written(f"{M}stop: {{window: 10}}\n", rows=60)
    synthesize(recipe, tmp_path / "whole")
    models["m"].made.clear()

    class Dying(Silent):
        def advance(self, done: int, total: int) -> None:
            if done == 30:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(recipe, tmp_path / "o", progress=Dying())
    journal = next((tmp_path / "o").glob("work/work-*/windows.jsonl"))
    journal.write_bytes(journal.read_bytes()[:-100])  # as a kill in the middle of a line leaves it
    later = recipe.with_name("later.yaml")  # its server may be waited for when it goes on
    later.write_text(recipe.read_text().replace("{model: m,", "{model: m, wait_for_server: 9,"))
    synthesize(later, tmp_path / "o")
    assert len(models["m"].made) == 30 and models["m"].settings["wait_for_server"] == 9
    recipes = [json.loads((tmp_path / one / "card.json").read_text()) for one in ("whole", "o")]
    assert [one["recipe"]["teachers"]["m"].pop("wait_for_server") for one in recipes] == [None, 9]
    assert recipes[0] == recipes[1]
    for name in ("rows.parquet", "rejects.parquet"):
        assert (tmp_path / "o" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "o" / "work").exists()


def test_a_budget_is_overshot_by_at_most_one_request(
    tmp_path: Path, written: Written, models: dict[str, Any]
) -> None:
    recipe = written(f"{M}budget: {{tokens: 65}}\nstop: {{window: 10}}\n", rows=40)
    card = synthesize(recipe, tmp_path / "o").to_json()
    assert sum(card["teachers"]["m"][f"{kind}_tokens"] for kind in ("prompt", "completion")) >= 65
    assert card["rows_out"] == 5 and card["rows_in"] == 40
    assert card["rejects_by_teacher"]["m"] == {"the budget of tokens is spent": 15}


def test_licences_let_teachers_answers_and_texts_through(
    tmp_path: Path, written: Written, models: dict[str, Any]
) -> None:
    recipe = written(
        "teachers: {m: {model: m, licence: MIT}, n: {model: m}, t: {table: tm.jsonl, licence: l}}\n"
        "route: {by: all}\n",
        rows=4,
    )
    recipe.write_text(recipe.read_text().replace("id: id", "id: id, licence: CC0-1.0"))
    answers = [
        {"text": "text 0", "lang": "af", "answer": "een", "l": "GPL-3.0"},
        {"text": "text 0", "lang": "af", "answer": "twee", "l": "MIT"},
    ]
    (tmp_path / "tm.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    card = synthesize(recipe, tmp_path / "o", licences=["mit", "CC0-1.0"]).to_json()
    assert "n" not in card["teachers"] and "has no known licence" in card["absent"]["n"]
    assert card["licences"] == {"MIT": 4} and card["source_licences"] == {"CC0-1.0": 4}
    assert card["rows_out"] == 4
    with pytest.raises(PomonaError, match="no teacher is left: m is under MIT"):
        recipe.write_text(recipe.read_text().replace(", t: {table: tm.jsonl, licence: l}", ""))
        synthesize(recipe, tmp_path / "p", licences=["CC0-1.0"])


def test_two_rows_of_one_id_and_rows_without_one_are_refused(
    tmp_path: Path, written: Written, models: dict[str, Any]
) -> None:
    recipe = written(M)
    (tmp_path / "in.jsonl").write_text('{"id": "a", "text": "x", "lang": "af"}\n' * 2)
    with pytest.raises(PomonaError, match=r'column "id": "a" is there twice'):
        synthesize(recipe, tmp_path / "o")
    (tmp_path / "in.jsonl").write_text('{"id": null, "text": "x", "lang": "af"}\n' * 2)
    with pytest.raises(PomonaError, match="2 rows have no id"):
        synthesize(recipe, tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_columns_of_lists_are_no_texts(
    tmp_path: Path, written: Written, models: dict[str, Any]
) -> None:
    recipe = written(M)
    (tmp_path / "in.jsonl").write_text('{"id": "a", "text": ["x", "y"], "lang": "af"}\n')
    with pytest.raises(PomonaError, match=r'in.jsonl: column "text" holds lists — name a column'):
        synthesize(recipe, tmp_path / "o")
    (tmp_path / "in.jsonl").write_text('{"id": "a", "text": "x", "lang": "af"}\n')
    (tmp_path / "t.jsonl").write_text('{"text": "x", "lang": "af", "answer": {"a": 1}}\n')
    recipe.write_text(recipe.read_text().replace("{m: ", "{t: {table: t.jsonl}, m: "))
    with pytest.raises(PomonaError, match=r't.jsonl: column "answer" holds objects'):
        synthesize(recipe, tmp_path / "o")


def test_half_a_character_is_a_reject(
    tmp_path: Path, written: Written, models: dict[str, Any]
) -> None:
    models["m"].say = lambda request, *_: "Sav" + "\ufffd" * ("0" in str(request.messages))
    card = synthesize(written(M, rows=4), tmp_path / "o").to_json()
    assert card["rejects_by_teacher"]["m"] == {"wrote half a character": 1}
    assert card["rows_out"] == 1


def test_each_row_in_several_languages(
    tmp_path: Path, written: Written, models: dict[str, Any]
) -> None:
    recipe = written("teachers: {m: {model: m, prompt: '{lang} {text}'}}\n", rows=2)
    recipe.write_text(recipe.read_text().replace("id: id", "id: id, lang: [nl, mk]"))
    synthesize(recipe, tmp_path / "o")
    rows = table(tmp_path / "o" / "rows.parquet")
    assert [(row["id"], row["answer"]) for row in rows] == [
        ("r0-nl", "NL TEXT 0"),
        ("r0-mk", "MK TEXT 0"),
        ("r1-nl", "NL TEXT 1"),
        ("r1-mk", "MK TEXT 1"),
    ]


def test_the_command_prints_the_card(
    tmp_path: Path, written: Written, models: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = written(M)
    assert (
        main(["synth", "run", str(recipe), "--out", str(tmp_path / "o"), "--format", "json"]) == 0
    )
    card = json.loads(capsys.readouterr().out)
    assert card["rows_in"] == card["rows_out"] + card["rejects"] == 12
    assert main(["synth", "run", str(recipe), "--out", str(tmp_path / "o")]) == 0
    said = capsys.readouterr().out
    assert "12 rows in, 6 out, 6 rejects" in said and "no teacher goes from en to be" in said
