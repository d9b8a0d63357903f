"""Recipes of several documents: in the order of their needs, kept over an error, named by it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pomona.errors import PomonaError
from pomona.merge import merge, merging

CONFIG = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2}
NAMES = [f"model.layers.{n}.mlp.up_proj.weight" for n in (0, 1)]
SETTINGS: dict[str, Any] = {"threads": 1, "report": False}
RECIPE = """
merge_method: slerp
base_model: both
models: [{model: both}, {model: c}]
parameters: {t: 0.5}
---
name: never
merge_method: passthrough
models: [{model: both}]
---
name: both
merge_method: linear
models:
  - {model: &b b, parameters: {weight: 1}}
  - {model: first/one, parameters: {weight: 3}}
---
name: first/one
merge_method: linear
models: [{model: a, parameters: {weight: 1}}, {model: b, parameters: {weight: 1}}]
---
"""


@pytest.fixture
def models(tmp_path: Path) -> dict[str, Path]:
    for seed, name in enumerate("abc"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(CONFIG))
        draw = np.random.default_rng(seed).standard_normal
        tensors = {key: draw((4, 4)).astype(np.float32) for key in NAMES}
        save_file(tensors, tmp_path / name / "model.safetensors")
    return {name: tmp_path / name for name in "abc"}


def recipe(tmp_path: Path, text: str = RECIPE) -> Path:
    (tmp_path / "r.yml").write_text(text)
    return tmp_path / "r.yml"


def tensors(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def test_documents_are_merged_in_the_order_of_their_needs(
    models: dict[str, Path], tmp_path: Path
) -> None:
    result = merge(recipe(tmp_path), tmp_path / "out", models=models, **SETTINGS)
    a, b, c = (tensors(models[name]) for name in "abc")
    for name in NAMES:
        both = 0.25 * b[name] + 0.75 * (a[name] + b[name]) / 2
        v, w = both.ravel(), c[name].ravel()
        angle = np.arccos(v @ w / np.linalg.norm(v) / np.linalg.norm(w))
        expected = np.sin(angle / 2) / np.sin(angle) * (v + w)
        np.testing.assert_allclose(tensors(tmp_path / "out")[name].ravel(), expected, rtol=2e-5)
    assert result.notes[-3:] == (
        f'{tmp_path}/r.yml, document "never" is not made: no other needs it',
        'document "first/one": 2 tensors (2 linear), 0.0 MB until all is done',
        'document "both": 2 tensors (2 linear), 0.0 MB until all is done',
    )
    told = json.loads((tmp_path / "out" / "pomona_merge.json").read_text())
    assert [one["name"] for one in told["recipe"]["documents"]] == ["first/one", "both"]
    card = json.loads((tmp_path / "out" / "pomona_merge.first-one.json").read_text())
    assert [one["model"] for one in card["inputs"]] == ["a", "b"]
    assert {each.name for each in tmp_path.iterdir()} - {"cache"} == {*"abc", "out", "r.yml"}


def test_what_was_made_before_a_kill_is_gone_on_from(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merge(recipe(tmp_path), tmp_path / "whole", models=models, **SETTINGS)
    real, made = merging.merge_recipe, []

    def killed(recipe: Any, out: Path, **settings: Any) -> Any:
        if len(made) == 1:
            raise KeyboardInterrupt
        made.append(out)
        return real(recipe, out, **settings)

    monkeypatch.setattr(merging, "merge_recipe", killed)
    with pytest.raises(KeyboardInterrupt):
        merge(recipe(tmp_path), tmp_path / "out", models=models, **SETTINGS)
    assert made[0].is_dir() and (tmp_path / "out.work") in made[0].parents
    before = (made[0] / "model.safetensors").stat().st_ino
    monkeypatch.setattr(
        merging,
        "merge_recipe",
        lambda recipe, out, **more: made.append(out) or real(recipe, out, **more),
    )
    seen: list[tuple[int, int]] = []
    progress = {"progress": lambda done, total: seen.append((done, total))}
    merge(recipe(tmp_path), tmp_path / "out", models=models, **SETTINGS, **progress)
    assert len(made) == 3 and before > 0
    assert seen[-1] == (768, 768) and seen == sorted(seen)
    assert not (tmp_path / "out.work").exists()
    for file in (tmp_path / "whole").iterdir():
        if file.suffix == ".safetensors" or file.name.startswith("pomona_merge"):
            assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes(), file.name


def test_a_dry_run_plans_all_and_writes_nothing(models: dict[str, Path], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    file = recipe(tmp_path)
    result = merge(file, tmp_path / "out", models=models, dry_run=True, **SETTINGS)
    assert (result.written, result.methods) == (False, {"slerp": 2})
    assert sorted(tmp_path.rglob("*")) == sorted([*before, file])


PASS = "merge_method: passthrough\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"name: x\n{PASS}models: [{{model: a}}]\n---\n{PASS}"
            "slices: [{sources: [{model: x, layer_range: [0, 3]}]}]\n",
            '{file}, document 2: document "x": layer_range [0, 3] of "x" goes beyond its 2 layers — '
            "the end is not included: at most [0, 2]",
        ),
        (
            f"{PASS}models: [{{model: a}}]\n---\n{PASS}models: [{{model: b}}]\n",
            '{file}, line 1: "name" is missing: only the document of the result has none',
        ),
        (
            f"name: x\n{PASS}models: [{{model: a}}]\n---\nname: x\n{PASS}models: [{{model: b}}]\n",
            '{file}, line 5: another document is named "x" too',
        ),
        (
            f"name: x\n{PASS}models: [{{model: y+a}}]\n---\nname: y\n{PASS}models: [{{model: x}}]\n",
            '{file}: documents need each other: "x" → "y" → "x" — each merges only what is there '
            "before it",
        ),
        (
            f"name: a+b\n{PASS}models: [{{model: a}}]\n---\n{PASS}models: [{{model: x}}]\n",
            "{file}, line 1: \"name\" is 'a+b': expected text that begins with a letter or number, "
            "without + @",
        ),
        (
            f"name: x\n{PASS}models: [{{model: a}}]\n---\nname: y\n{PASS}models: [{{modle: x}}]\n",
            '{file}, document "y", line 7: models.0.modle: unknown key "modle": did you mean "model"?'
            '\n{file}, document "y", line 7: models.0: "model" is missing',
        ),
        (
            f"name: x\n{PASS}models: [{{model: nowhere}}]\n---\n{PASS}models: [{{model: x}}]\n",
            '{file}, document "x": nowhere: no such folder — give a checkpoint folder, a name of the '
            "catalogue or a Hugging Face id",
        ),
        (
            f"name: x\n{PASS}models: [{{model: a}}]\n---\n- 3\n",
            "{file}, document 2: a recipe is a mapping of keys and values, and this is not — begin "
            "with merge_method: …",
        ),
    ],
)
def test_a_mistake_names_its_document(
    models: dict[str, Path], tmp_path: Path, text: str, expected: str
) -> None:
    file = recipe(tmp_path, text)
    with pytest.raises(PomonaError) as error:
        merge(file, tmp_path / "out", models=models, **SETTINGS)
    assert str(error.value) == expected.format(file=file)
    assert {each.name for each in tmp_path.iterdir()} - {"cache"} == {*"abc", "r.yml"}


def test_damage_in_a_later_document_keeps_the_earlier(
    models: dict[str, Path], tmp_path: Path
) -> None:
    damaged = tensors(models["c"])
    damaged[NAMES[1]][2, 2] = np.nan
    save_file(damaged, models["c"] / "model.safetensors")
    with pytest.raises(PomonaError, match=r"document 1: .*layers\.1\.mlp"):
        merge(recipe(tmp_path), tmp_path / "out", models=models, **SETTINGS)
    kept = sorted(each.name[:-17] for each in (tmp_path / "out.work").glob("work-*/*-*"))
    assert kept == ["both", "first-one"]
