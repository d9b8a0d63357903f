"""Which answers are taken: by rewards, checks, objectives, routes and steps."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pomona._lazy import function_named
from pomona.synth.pipeline import judging, synthesize
from pomona.synth.pipeline.run import Silent

Written = Callable[..., Path]
LONG = "function: {name: 'tests.synth.pipeline.test_choosing:longest'}"


def longest(candidates: list[Any]) -> list[float]:
    """A reward."""
    return [float(len(one.lesson.text)) for one in candidates]


def rows_of(folder: Path, name: str = "rows") -> list[dict[str, Any]]:
    return pq.read_table(folder / "o" / f"{name}.parquet").to_pylist()


@pytest.fixture
def two(models: dict[str, Any], fake: Any) -> dict[str, Any]:
    """A model of short answers, and one of long ones."""
    models["short"] = fake(lambda *_: "kort", name="short")
    models["long"] = fake(lambda r, *_: r.messages[0]["content"] + " " + "lank " * 3, name="long")
    return models


TWO = "teachers: {s: {model: short, licence: MIT}, l: {model: long, licence: MIT}}\n"


def test_the_best_by_reward_is_kept_and_pairs_are_written(
    tmp_path: Path, written: Written, two: dict[str, Any]
) -> None:
    recipe = written(
        f"{TWO}rewards: {{{LONG}}}\nalternatives: true\n"
        "preferences: {prompt: '<|{lang}|>{text}'}\n",
        rows=2,
    )
    card = synthesize(recipe, tmp_path / "o").to_json()
    rows = rows_of(tmp_path)
    assert [row["teacher"] for row in rows] == ["l", "l"]
    assert rows[0]["alternatives"] == [
        {"answer": "kort", "reward": 4.0, "teacher": "s", "licence": "MIT", "sample": 0}
    ]
    pairs = [json.loads(x) for x in (tmp_path / "o/preferences.jsonl").read_text().splitlines()]
    assert card["preferences"] == len(pairs) == 2
    assert pairs[0]["prompt"] == "<|af|>text 0"
    assert (pairs[0]["chosen"], pairs[0]["rejected"]) == ("text 0 lank lank lank", "kort")
    assert card["teachers"]["s"]["rows"] == 0 and card["teachers"]["s"]["answered"] == 2


def test_the_route_asks_the_next_teacher_only_where_none_before_stood(
    tmp_path: Path, written: Written, two: dict[str, Any]
) -> None:
    recipe = written(
        f"{TWO}route: {{by: fixed, table: {{af: [s, l]}}}}\nchecks: {{length_ratio: [1, 9]}}\n",
        rows=4,
    )
    card = synthesize(recipe, tmp_path / "o").to_json()
    assert [row["teacher"] for row in rows_of(tmp_path)] == ["l"] * 4
    assert card["teachers"]["s"]["asked"] == 4 and card["teachers"]["l"]["asked"] == 4
    recipe.write_text(recipe.read_text().replace("checks: {length_ratio: [1, 9]}\n", ""))
    card = synthesize(recipe, tmp_path / "o").to_json()
    assert card["teachers"]["s"]["rows"] == 4 and card["teachers"]["l"]["asked"] == 0


def test_all_keeps_what_every_teacher_wrote(
    tmp_path: Path, written: Written, two: dict[str, Any]
) -> None:
    card = synthesize(written(f"{TWO}route: {{by: all}}\n", rows=2), tmp_path / "o").to_json()
    assert (card["rows_in"], card["rows_out"], card["answers"], card["rejects"]) == (2, 2, 4, 0)
    assert [(row["id"], row["rank"], row["teacher"]) for row in rows_of(tmp_path)] == [
        ("r0", 0, "s"),
        ("r0", 1, "l"),
        ("r1", 0, "s"),
        ("r1", 1, "l"),
    ]


def test_what_a_check_takes_away_is_drawn_again(
    tmp_path: Path, written: Written, models: dict[str, Any]
) -> None:
    models["m"].say = lambda *asked: "x" * (1 + 9 * asked[1])
    recipe = written(
        "teachers: {m: {model: m}}\nchecks: {length_ratio: [3, 9]}\nrefill: 2\n", rows=3
    )
    card = synthesize(recipe, tmp_path / "o").to_json()
    assert card["rows_out"] == card["refilled"] == 3
    assert {row["sample"] for row in rows_of(tmp_path)} == {2}
    assert card["teachers"]["m"]["asked"] == 9
    recipe.write_text(recipe.read_text().replace("refill: 2", "refill: 1") + "test: []\n")
    (tmp_path / "in.jsonl").write_text(
        (tmp_path / "in.jsonl").read_text().replace("text 0", "x")  # which the first draw fits
    )
    recipe.write_text(recipe.read_text().replace("[3, 9]", "[1, 9]"))
    models["m"].say = lambda *asked: "y" * (1 + asked[1])
    card = synthesize(recipe, tmp_path / "p").to_json()
    assert (card["rows_out"], card["rejects_by_teacher"]) == (1, {"m": {"length_ratio": 2}})


def test_near_copies_of_a_test_and_of_each_other_are_never_taken(
    tmp_path: Path, written: Written, models: dict[str, Any]
) -> None:
    same = "Remove the selected files from the archive"
    texts = [same, "Save the document before closing it", "", same, same, "Open another window"]
    models["m"].say = lambda request, *_: str(request.messages[0]["content"])[::-1]
    (tmp_path / "test.jsonl").write_text(json.dumps({"text": f"{texts[1]}."}) + "\n")
    recipe = written(
        "teachers: {m: {model: m}}\ntest: [{rows: test.jsonl}]\nchecks: {near_duplicates: 0.8}\n",
        texts=[*texts, same],
    )
    card = synthesize(recipe, tmp_path / "o").to_json()
    assert [row["id"] for row in rows_of(tmp_path)] == ["r0", "r3", "r5"]  # of af one, of be one
    assert card["near_duplicates"]["refused"] == 2 and card["teachers"]["m"]["asked"] == 3
    assert [row["reason"] for row in rows_of(tmp_path, "rejects")][:2] == [
        "is a near copy of a test item",
        "the text is empty",
    ]


def test_a_second_model_rephrases_and_drafts_stay_where_it_fails(
    tmp_path: Path, written: Written, models: dict[str, Any], fake: Any
) -> None:
    def rewrite(request: Any, index: int, temperature: float) -> str:
        said = str(request.messages[0]["content"])
        return "" if "text 2" in said else f"netjies {said}"

    models["r"] = fake(rewrite, name="r")
    recipe = written(
        "teachers:\n"
        "  m: {model: m, licence: MIT}\n"
        "  r: {model: r, licence: Apache-2.0}\n"
        "steps: [translate, {rephrase: {teacher: r, prompt: '{lang}: {answer} ({text})'}},"
        " {limit: 1}]\n",
        rows=3,
    )
    allowed = ["mit", "Apache-2.0", "unknown"]
    card = synthesize(recipe, tmp_path / "o", licences=allowed).to_json()
    first, second = rows_of(tmp_path)
    assert first["answer"] == "netjies af: TEXT 0 (text 0)" and first["teacher"] == "r"
    assert (first["drafted_by"], first["licence"]) == ("m", "Apache-2.0 AND MIT")
    assert second["lang"] == "be" and second["answer"].startswith("netjies be")
    assert card["rejects_by_teacher"] == {"none": {"the limit of 1 row of af is reached": 1}}
    recipe.write_text(recipe.read_text().replace(", {limit: 1}", ""))
    synthesize(recipe, tmp_path / "o")
    third = rows_of(tmp_path)[2]
    assert (third["answer"], third["teacher"], third["drafted_by"]) == ("TEXT 2", "m", None)


def test_answers_are_filtered_by_rewards_and_a_strict_filter_stops_nobody(
    tmp_path: Path, written: Written, two: dict[str, Any]
) -> None:
    filtered = "steps: [translate, {filter: {function: 5}}]\n"
    recipe = written(
        f"teachers: {{s: {{model: short}}}}\nrewards: {{{LONG}}}\n{filtered}"
        "stop: {window: 10}\nrefill: 0\n",
        rows=30,
    )
    recipe.write_text(recipe.read_text().replace("s: {model", "l: {model: long}, s: {model"))
    card = synthesize(recipe, tmp_path / "o").to_json()
    assert card["teachers"]["s"]["stopped"] is None and card["teachers"]["s"]["rows"] == 0
    assert card["teachers"]["l"]["rows"] == 30


def test_objectives_choose_and_quotas_say_how_many(
    tmp_path: Path, written: Written, two: dict[str, Any]
) -> None:
    steer = "steer: {objectives: [{metric: length, direction: %s}], per_group: {af: 1, be: 4}}\n"
    recipe = written(TWO + steer % "down", rows=4)
    card = synthesize(recipe, tmp_path / "o").to_json()
    rows = rows_of(tmp_path)
    assert sum(row["lang"] == "af" for row in rows) == 1
    assert [row["teacher"] for row in rows if row["lang"] == "be"] == ["s", "l", "s", "l"]
    assert card["rejects_by_teacher"] == {"none": {"the quota of af has others": 1}}
    recipe.write_text(
        recipe.read_text().replace("down", "up").replace(", per_group: {af: 1, be: 4}", "")
    )
    synthesize(recipe, tmp_path / "o")
    assert {row["teacher"] for row in rows_of(tmp_path)} == {"l"}


def test_a_fixed_route_is_measured_on_validation_rows(
    tmp_path: Path, written: Written, two: dict[str, Any]
) -> None:
    valid = [
        {"text": f"woord {at}", "lang": lang, "reference": ref}
        for at in range(8)
        for lang, ref in (("af", f"woord {at} lank lank lank"), ("be", "kort"))
    ]
    (tmp_path / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in valid))
    recipe = written(
        f"{TWO}route: {{by: fixed}}\nvalidation: {{rows: valid.jsonl, reference: reference}}\n",
        rows=4,
    )
    card = synthesize(recipe, tmp_path / "o").to_json()
    assert [row["teacher"] for row in rows_of(tmp_path)] == ["l", "s", "l", "s"]
    assert card["validation_cost"]["s"]["completion_tokens"] == 16 * 5
    assert card["cost"]["completion_tokens"] == (16 * 2 + 4) * 5


def test_the_card_says_what_was_looked_for(
    tmp_path: Path, written: Written, models: dict[str, Any]
) -> None:
    recipe = written("teachers: {m: {model: m}}\n", rows=2)
    card = synthesize(recipe, tmp_path / "o").to_json()
    assert card["near_duplicates"]["share"] is None and card["test_copies"] is None
    (tmp_path / "test.jsonl").write_text('{"text": "quite another text"}\n')
    recipe.write_text(
        recipe.read_text() + "test: [{rows: test.jsonl}]\nchecks: {near_duplicates: 1}\n"
    )
    card = synthesize(recipe, tmp_path / "o").to_json()
    assert card["near_duplicates"]["share"] == 0 and card["test_copies"] == 0
    said = (tmp_path / "o" / "README.md").read_text()
    assert "the licence of what m writes is not known" in said


def test_where_a_row_came_to_nothing_its_near_copy_is_asked_about(
    tmp_path: Path, written: Written, models: dict[str, Any]
) -> None:
    same = "Remove the selected files from the archive"
    models["m"].say = lambda request, *_: "ja" if request.messages[0]["content"][-1] == "." else ""
    recipe = written(
        "teachers: {m: {model: m}}\nrefill: 0\nchecks: {near_duplicates: 0.8}\n",
        texts=[same, "Save", f"{same}.", "Print", f"{same} ."],
    )
    card = synthesize(recipe, tmp_path / "o").to_json()
    assert [row["id"] for row in rows_of(tmp_path)] == ["r2"]
    assert card["near_duplicates"]["refused"] == 1 and card["teachers"]["m"]["asked"] == 4


def test_the_card_counts_the_copies_that_were_let_through(
    tmp_path: Path, written: Written, models: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blind(judging.NearDuplicates):
        def nearest(self, text: str) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
            super().nearest(text)

    monkeypatch.setattr(judging, "NearDuplicates", Blind)
    (tmp_path / "rows.jsonl").write_text('{"text": "Save the file", "lang": "af"}\n' * 4)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "data: {rows: rows.jsonl}\nteachers: {p: {program: [tr, a-z, A-Z], licence: MIT}}\n"
        "checks: {near_duplicates: 0.8}\n"
    )
    card = synthesize(recipe, tmp_path / "o").to_json()
    assert card["rows_out"] == 4 and card["near_duplicates"]["share"] == 0.75


class Interrupting(Silent):
    """Stops a run after its first window."""

    def advance(self, done: int, total: int) -> None:
        raise KeyboardInterrupt


def test_no_row_is_chosen_by_what_a_function_was_before_it_changed(
    tmp_path: Path, written: Written, two: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    body = "def judged(rows):\n    return [{}len(one.lesson.text) for one in rows]\n"
    judge = tmp_path / "a_judge_that_changes.py"
    recipe = written(
        f"{TWO}rewards: {{function: {{name: '{judge.stem}:judged'}}}}\nstop: {{window: 10}}\n",
        rows=20,
    )
    judge.write_text(body.format(""))
    with pytest.raises(KeyboardInterrupt):
        synthesize(recipe, tmp_path / "o", progress=Interrupting())
    judge.write_text(body.format("-1 * "))
    monkeypatch.delitem(sys.modules, judge.stem)  # as a new process would begin
    function_named.cache_clear()
    synthesize(recipe, tmp_path / "o")
    assert {row["teacher"] for row in rows_of(tmp_path)} == {"s"}
