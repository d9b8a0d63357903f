"""Merges without one expert, sweeps of a value, and who hurts whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pomona.errors import PomonaError
from pomona.merge import merge, merge_plan
from pomona.merge.planning.planner import plan_merge
from pomona.merge.search import leave_one_out, sweep
from pomona.merge.search.experts import Expert, experts_of, uniform, without
from pomona.merge.search.results import Gain


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def plain(*names: str, method: str = "linear") -> dict[str, Any]:
    models = [
        {"model": name, "parameters": {"weight": 0.2 * (place + 1)}}
        for place, name in enumerate(names)
    ]
    return {
        "merge_method": method,
        "models": models,
        **({} if method == "linear" else {"base_model": "base"}),
    }


def merged(recipe: dict[str, Any], out: Path) -> bytes:
    merge_plan(plan_merge(recipe), out)
    return weights(out)


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_every_merge_is_the_one_made_directly(project: Path, method: str) -> None:
    recipe = plain("german", "french", "noise", method=method)
    variants = leave_one_out(recipe, project / "out")
    assert [folder.name for folder in variants.folders] == [
        "all",
        "without-german",
        "without-french",
        "without-noise",
    ]
    assert weights(project / "out" / "all") == merged(recipe, project / "direct")
    for place, name in enumerate(("german", "french", "noise")):
        left = {
            **recipe,
            "models": [model for at, model in enumerate(recipe["models"]) if at != place],
        }
        assert weights(project / "out" / f"without-{name}") == merged(
            left, project / f"direct-{name}"
        )
    assert not (project / "out.work").exists()


def test_a_sweep_makes_the_merges_that_one_by_one_would(project: Path) -> None:
    recipe = project / "recipe.yaml"
    values = {"german": [0.0, 0.5], "models.1.weight": [1.0], "noise": [0.0]}
    swept = sweep(recipe, project / "out", values)
    assert [one.folder.name for one in swept] == [
        "german=0,models.1.weight=1,noise=0",
        "german=0.5,models.1.weight=1,noise=0",
    ]
    for one in swept:
        assert weights(one.folder) == merged(dict(one.recipe), project / "direct" / one.folder.name)
    assert weights(swept[0].folder) != weights(swept[1].folder)


def test_a_sweep_sets_a_number_by_its_place(project: Path) -> None:
    swept = sweep(
        plain("german", "french"),
        project / "out",
        {"models.0.parameters.weight": [0.1, 0.9]},
        dry_run=True,
    )
    assert [one.recipe["models"][0]["parameters"]["weight"] for one in swept] == [0.1, 0.9]
    assert not (project / "out").exists()


def test_who_hurts_whom(project: Path) -> None:
    recipe = project / "recipe.yaml"
    variants = leave_one_out(
        recipe, project / "out", values={"german": 1, "models.1.weight": 1, "noise": 1}
    )
    assert variants.matrix is not None
    gains = variants.matrix.gains()
    assert set(gains) == {"german", "french", "noise"}
    assert gains["noise"]["overall"].verdict == "worse"
    assert gains["german"]["overall"].value > gains["noise"]["overall"].value
    told = json.loads((project / "out" / "leave_one_out.json").read_text())
    assert {(row["expert"], row["group"]) for row in told["matrix"]} == {
        (e, g) for e in gains for g in ("overall", "de", "fr", "cy")
    }
    assert pq.read_table(project / "out" / "matrix.parquet").num_rows == 12
    assert "noise hurts" in (project / "out" / "leave_one_out.html").read_text()
    assert not list((project / "out").glob("*.safetensors"))


def test_dry_runs_check_and_write_nothing(project: Path) -> None:
    assert list(
        leave_one_out(plain("german", "french"), project / "out", dry_run=True).recipes
    ) == [
        "all",
        "without-german",
        "without-french",
    ]
    with pytest.raises(PomonaError, match="nose"):
        leave_one_out(plain("german", "nose"), project / "out", dry_run=True)
    assert not (project / "out").exists()


def test_what_cannot_be_left_out_or_swept(project: Path) -> None:
    with pytest.raises(PomonaError, match="models: 1 expert: without it nothing is left to merge"):
        leave_one_out(plain("german"), project / "out")
    two = plain("german", "french") | {"merge_method": "slerp", "base_model": "german"}
    with pytest.raises(
        PomonaError,
        match="merge_method slerp: merges exactly 2 models: without one of them nothing is left to "
        "merge — leave experts out of a method that takes any number, such as linear or ties",
    ):
        leave_one_out(two, project / "out", dry_run=True)
    with pytest.raises(PomonaError, match='the free parameter "german" has no value'):
        leave_one_out(project / "recipe.yaml", project / "out")
    with pytest.raises(PomonaError, match=r"sweep: no value is set — give --set NAME=0,0.5,1"):
        sweep(plain("german"), project / "out", {})
    with pytest.raises(PomonaError, match=r"weight: \[1, 1\] are not different numbers"):
        sweep(plain("german"), project / "out", {"weight": [1, 1]})
    with pytest.raises(PomonaError, match='no free parameter "alpha"'):
        sweep(plain("german"), project / "out", {"alpha": [1, 2]})


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        (["weight=0.5,0.50"], r"weight: \[0\.5, 0\.5\] are not different numbers"),
        (["weight=0,-0.0"], r"weight: \[0\.0, -0\.0\] are not different numbers"),
        (["weight=0", "weight=1"], "--set weight: is given twice — write all its values in one"),
        (["weight=nan"], '--set weight: "nan" is not a finite number'),
        (["weight=1e999"], '--set weight: "1e999" is not a finite number'),
        (["weight"], '--set: "weight" is not NAME=VALUE'),
        ([f"{c}={','.join(map(str, range(30)))}" for c in "abc"], "--set: 27,000 merges, and"),
    ],
)
def test_values_that_are_none_are_refused(project: Path, texts: list[str], says: str) -> None:
    with pytest.raises(PomonaError, match=says):
        sweep(plain("german"), project / "out", texts, dry_run=True)


def test_near_values_have_folders_of_their_own(project: Path) -> None:
    place = "models.0.parameters.weight"
    swept = sweep(plain("german"), project / "o", [f"{place}=0.1234567,0.1234568,1"], dry_run=True)
    assert [one.folder.name.partition("=")[2] for one in swept] == ["0.1234567", "0.1234568", "1"]


def test_experts_are_told_from_the_base_and_named_by_what_differs() -> None:
    ties = {
        "merge_method": "ties",
        "base_model": "a/base",
        "models": [{"model": name} for name in ("a/base", "a/one", "b/one", "b/two+lora")],
    }
    assert [expert.name for expert in experts_of(ties)] == ["a-one", "b-one", "b-two+lora"]
    assert [model["parameters"]["weight"] for model in uniform(ties)["models"]] == [1, 1, 1, 0]
    slerp = {
        "merge_method": "slerp",
        "base_model": "one",
        "models": [{"model": "one"}, {"model": "two"}],
    }
    assert [expert.name for expert in experts_of(slerp)] == ["one", "two"]


def test_experts_are_left_out_of_slices_too() -> None:
    sources = [{"model": name, "layer_range": [0, 4]} for name in ("one", "two")]
    recipe = {"merge_method": "linear", "slices": [{"sources": sources}, {"sources": sources[:1]}]}
    experts = experts_of(recipe)
    assert [source["model"] for source in without(recipe, experts[1:])["slices"][0]["sources"]] == [
        "one"
    ]
    with pytest.raises(PomonaError, match="without one nothing is left to merge"):
        without(recipe, experts[:1])
    assert len(recipe["slices"][0]["sources"]) == 2


def test_gains_of_losses_are_turned() -> None:
    assert str(Gain(0.0123, -0.5, 1.5)) == "+0.01 [−0.50, +1.50]"
    assert str(Gain(-0.0123, -0.02, 0)) == "−0.0123 [−0.0200, 0.0000]"
    assert Expert("one", "a/one").reference.path == "a/one"


def test_values_may_be_text(project: Path) -> None:
    recipe = plain("german", "french")
    recipe["models"][0]["parameters"]["weight"] = {"search": [0, 1], "name": "alpha"}
    place = "models.1.parameters.weight"
    texts = sweep(recipe, project / "s", ["alpha=0, 0.5", f"{place}=1"], dry_run=True)
    assert texts == sweep(recipe, project / "s", {"alpha": [0.0, 0.5], place: [1.0]}, dry_run=True)
    left_out = leave_one_out(recipe, project / "l", values=["alpha=0.5"], dry_run=True)
    assert left_out.recipes["all"]["models"][0]["parameters"]["weight"] == 0.5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("alpha", '--set: "alpha" is not NAME=VALUE — write --set alpha=0,0.5,1'),
        ("=1", '--set: "=1" is not NAME=VALUE'),
        ("alpha=", '--set: "alpha=" is not NAME=VALUE'),
        ("alpha=a", '--set alpha: "a" is not a finite number — write --set alpha=0.5'),
    ],
)
def test_text_that_is_no_value_says_how_to_write_one(project: Path, text: str, says: str) -> None:
    recipe = plain("german", "french")
    for make in (sweep, leave_one_out):
        with pytest.raises(PomonaError, match=says):
            make(recipe, project / "o", values=[text])


TWO = """name: languages
merge_method: linear
models:
  - {model: german, parameters: {weight: 1}}
  - {model: french, parameters: {weight: 1}}
---
merge_method: linear
models:
  - {model: languages, parameters: {weight: {search: [0, 1], name: languages}}}
  - {model: noise, parameters: {weight: 0.5}}
"""


def test_documents_before_the_one_that_varies_are_merged_once(project: Path) -> None:
    recipe = project / "two.yaml"
    recipe.write_text(TWO)
    values = {"languages": [0.25, 0.75]}
    assert len(sweep(recipe, project / "out", values, dry_run=True)) == 2
    assert not list(project.glob("*out*"))
    swept = sweep(recipe, project / "out", values)
    for one, value in zip(swept, (0.25, 0.75), strict=True):
        recipe.write_text(TWO.replace("{search: [0, 1], name: languages}", str(value)))
        merge(recipe, project / "direct" / one.folder.name)
        files = [
            (folder / "pomona_merge.languages.json").read_bytes()
            for folder in (one.folder, project / "direct" / one.folder.name)
        ]
        assert files[0] == files[1]
        assert weights(one.folder) == weights(project / "direct" / one.folder.name)
    left_out = leave_one_out(recipe, project / "left")
    assert [folder.name for folder in left_out.folders] == [
        "all", "without-languages", "without-noise",
    ]  # fmt: skip
    assert weights(left_out.folders[0]) == weights(project / "direct" / swept[1].folder.name)
    assert not list(project.glob("*.work"))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "{model: german, parameters: {weight: 1}}",
            "{model: german, parameters: {weight: {search: [0, 1]}}}",
            'two.yaml, document "languages": is searched, and only the document of the result can be: '
            "the others are made once — write a number, or search it in a file of its own",
        ),
        ("model: german", "model: nose", 'two.yaml, document "languages": nose: no such folder — '),
        ("{model: noise,", "{model: nose,", "two.yaml, document 2: nose: no such folder — "),
        (
            "{model: languages,",
            "{model: german,",
            'two.yaml, document "languages": no other document needs it — name it among the models '
            "of another, or take it out",
        ),
    ],
)
def test_mistakes_in_documents_are_told_before_any_is_merged(
    project: Path, old: str, new: str, says: str
) -> None:
    (project / "two.yaml").write_text(TWO.replace(old, new))
    for dry_run in (True, False):
        with pytest.raises(PomonaError) as error:
            sweep("two.yaml", project / "out", {"languages": [0.5]}, dry_run=dry_run)
        assert str(error.value).startswith(says)
    assert not list(project.glob("*out*"))
