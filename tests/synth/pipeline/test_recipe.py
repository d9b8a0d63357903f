"""Mistakes in a recipe are told with their lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pomona.errors import PomonaError
from pomona.models import BOUNDS, Sampling
from pomona.synth.pipeline import load_synth, synth_schema


def refused(folder: Path, text: str) -> str:
    path = folder / "r.yaml"
    path.write_text(text)
    with pytest.raises(PomonaError) as caught:
        load_synth(path)
    return str(caught.value).replace(str(path), "r.yaml")


def test_mistakes_are_told_with_file_and_line(tmp_path: Path) -> None:
    said = refused(
        tmp_path,
        "data: {rows: ui, txt: english}\n"
        "teachers:\n"
        "  m: {model: ui-xs, prompt: translate}\n"
        "  n: {modle: ui-xs}\n"
        "  o: {person: Ada}\n"
        "  p: {programm: [tr, a, b], licence: MIT}\n"
        "steps: [translate, {rephrases: {teacher: m, prompt: x}}]\n"
        "budget: {money: 0}\n",
    )
    assert 'r.yaml, line 1: unknown key "txt" in data — did you mean "text"?' in said
    assert 'r.yaml, line 4: unknown key "modle" in teachers.n — did you mean "model"?' in said
    assert 'r.yaml, line 5: "o" must be a mapping with one of model, apertium, program, table' in (
        said
    )
    assert 'r.yaml, line 6: unknown key "programm" in teachers.p — did you mean "program"?' in said
    assert 'unknown key "rephrases" in steps[2] — did you mean "rephrase"?' in said
    assert 'r.yaml, line 8: "money" must be more than 0, not 0' in said


def test_what_sections_do_not_fit_is_told_with_its_line(tmp_path: Path) -> None:
    said = refused(
        tmp_path,
        "data: {rows: ui}\n"
        "teachers:\n"
        "  m: {model: ui-xs, prompt: translate}\n"
        "  p: {program: [tr, a, b]}\n"
        "  a: {apertium: nld-afr, package: apertium-afr-nld, cpu_price: 0}\n"
        "route: {by: single, teachers: x}\n"
        "budget: {money: 1}\n"
        "steps: [translate, {filter: {language: 1}}, {rephrase: {teacher: p, prompt: x}}]\n",
    )
    assert said.splitlines() == [
        'r.yaml, line 3: a budget of money needs a price of the teacher "m"',
        "r.yaml, line 3: the prompt template has no {text}",
        'r.yaml, line 4: a budget of money needs a cpu_price of the teacher "p"',
        'r.yaml, line 5: "languages" is missing in teachers.a: such as {nl: [af]}',
        'r.yaml, line 6: there is no teacher "x"',
        'r.yaml, line 8: "language" is none of the recipe\'s rewards',
        'r.yaml, line 8: "p" is no model under teachers',
        "r.yaml, line 8: the prompt template has no {answer}",
        "r.yaml, line 8: the prompt template has no {text}",
        "r.yaml, line 8: the steps are translate, rephrase, filter, limit, in this order, each once",
    ]


def test_paths_are_relative_to_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("{}")
    (tmp_path / "r.yaml").write_text(
        "data: {rows: in.jsonl}\ntest: [{rows: ui}]\nteachers: {t: {table: in.jsonl}}\n"
    )
    recipe = load_synth(tmp_path / "r.yaml")
    assert recipe.data.rows == [str(tmp_path / "in.jsonl")] and recipe.test[0].rows == ["ui"]
    assert recipe.teachers["t"].model_dump()["rows"] == [str(tmp_path / "in.jsonl")]


def test_the_schema_describes_every_section() -> None:
    schema = synth_schema()
    assert {"data", "teachers", "budget"} <= schema["properties"].keys()
    assert schema["$defs"]["ModelTeacher"]["properties"]["raw"]["description"].startswith("Send")


def test_teachers_have_the_bounds_of_requests(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("{}")
    text = "data: {{rows: in.jsonl}}\nteachers: {{t: {{model: ui-xs, {}}}}}\n"
    (tmp_path / "r.yaml").write_text(text.format("top_k: 20, stop: [END], presence_penalty: -1"))
    part: Any = load_synth(tmp_path / "r.yaml").teachers["t"]
    assert part.sampling == Sampling(top_k=20, stop=("END",), presence_penalty=-1)
    schema = synth_schema()["$defs"]["ModelTeacher"]["properties"]
    for name, bounds in BOUNDS.items():
        low = "exclusiveMinimum" if bounds.above else "minimum"
        high = "exclusiveMaximum" if bounds.below else "maximum"
        assert (schema[name][low], schema[name][high]) == (bounds.low, bounds.high)
        (tmp_path / "r.yaml").write_text(text.format(f"{name}: {bounds.high + 1}"))
        with pytest.raises(PomonaError, match=f"r.yaml, line 2: .*{name}"):
            load_synth(tmp_path / "r.yaml")
