"""`search_merge` from a recipe to a checkpoint with its comparison, and the same again after a
kill.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from pomona.errors import PomonaError
from pomona.ledger import Ledger
from pomona.merge.search import Judge, OnItems, Searched, fill, forecast, search_merge
from pomona.merge.search.experts import alone
from pomona.merge.search.judge import read_items
from pomona.merge.search.problem import ItemSelection, files_of, read_search
from pomona.merge.search.workspace import SearchWorkspace, read_search_recipe
from pomona.models import load
from pomona.models.tensors import Tensors
from pomona.workspace import Workspace


def changed(project: Path, old: str, new: str) -> Path:
    path = project / "recipe.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    return path


def valid_items(project: Path) -> Any:
    read = read_search_recipe(project / "recipe.yaml")
    document, folder = read.document, read.folder
    settings = read_search(document)
    return read_items(settings, settings.valid, files_of(settings, folder))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_search_writes_the_best_merge_and_what_it_bought(done: tuple[Path, Searched]) -> None:
    project, found = done
    told = json.loads((project / "best" / "search.json").read_text())
    assert told["values"] == dict(found.optimum.best.values)
    assert set(told["values"]) == {"german", "models.1.weight", "noise"}
    assert found.optimum.best.value == min(
        trial.value for trial in found.optimum.trials if trial.value is not None
    )
    assert {row["baseline"] for row in told["test"]} == {
        "base",
        "uniform",
        "expert german",
    } or "expert french" in str(told["test"])
    assert {row["group"] for row in told["test"]} == {"overall", "cy", "de", "fr"}
    assert all(row["ci_low"] <= row["delta"] <= row["ci_high"] for row in told["test"])
    trials = pq.read_table(project / "best" / "trials.parquet")
    assert trials.num_rows == 5
    assert trials["best"].to_pylist()[-1] == found.optimum.best.value
    page = (project / "best" / "search.html").read_text()
    assert "uniform" in page
    assert "<script" not in page
    assert not (project / "best.work").exists()


def test_the_cost_of_all_trials_is_in_the_ledger(done: tuple[Path, Searched]) -> None:
    project, found = done
    ledger = Ledger.read(project / "best" / "ledger.json")
    mine = {entry.baseline: entry for entry in ledger.of("overall") if entry.variant == "searched"}
    assert set(mine) > {"base", "uniform"}
    assert mine["base"].flops_once == sum(trial.flops for trial in found.optimum.trials) > 0
    assert mine["base"].tokens == found.optimum.tokens > 0
    assert mine["base"].delta == pytest.approx(found.contrasts["base"]["overall"].delta)


def test_the_written_merge_scores_what_the_search_said(done: tuple[Path, Searched]) -> None:
    project, found = done
    items = valid_items(project)
    model = load(str(project / "best"))
    nats = -sum(
        float(score.sum(dtype=np.float64))
        for score in model.score(items.prompts, items.completions, end=True)
    )
    assert nats / sum(len(text.encode()) for text in items.completions) == pytest.approx(
        found.optimum.best.value, abs=1e-6
    )
    assert Tensors(project / "best").names == Tensors(project / "base").names


def test_a_killed_search_ends_like_a_straight_one(
    project: Path, done: tuple[Path, Searched], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, straight = project / "recipe.yaml", done[0] / "best"
    scored: list[int] = []
    stop = [3]
    score = Judge.__call__

    def counted(self: Judge, *arguments: Any) -> Any:
        scored.append(1)
        if len(scored) == stop[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return score(self, *arguments)

    monkeypatch.setattr(Judge, "__call__", counted)
    for stop[0] in (3, 6):
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)  # a fork makes its pool anew: two threads at once spoil it
            search_merge(recipe, project / "killed")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        assert not (project / "killed").exists()
    stop[0] = 0
    search_merge(recipe, project / "killed")
    assert len(scored) == 12 - 2 - 5
    one, other = (
        json.loads((folder / "search.json").read_text())
        for folder in (straight, project / "killed")
    )
    for told in (one, other):
        del told["seconds"]
    assert one == other
    assert (straight / "model.safetensors").read_bytes() == (
        project / "killed" / "model.safetensors"
    ).read_bytes()


def test_greedy_leaves_the_noise_out(project: Path) -> None:
    recipe = changed(project, "method: random", "method: greedy")
    text = (
        recipe.read_text()
        .replace("{search: [0, 1], name: german}", "1")
        .replace("{search: [0, 1]}", "1")
    )
    recipe.write_text(text.replace("{choices: [0, 0.5, 1], name: noise}", "1"))
    searched = search_merge(recipe, project / "soup")
    assert searched.optimum.best.values["noise"] == 0
    assert "noise" not in str(searched.recipe["models"])
    assert len(searched.optimum.trials) == 5


def test_answers_can_be_judged(project: Path) -> None:
    recipe = changed(project, "trials: 5", "trials: 2\n  metric: chrf\n  max_new_tokens: 4")
    searched = search_merge(recipe, project / "best", seed=4)
    assert searched.higher_is_better
    assert searched.signature.startswith("merge search|method:random|trials:2|seed:4|chrf|")


def test_a_dry_run_writes_nothing(project: Path) -> None:
    before = sorted(path.name for path in project.iterdir())
    estimate = forecast(project / "recipe.yaml", project / "best")
    assert (estimate.trials, estimate.valid, estimate.test, estimate.free) == (
        5,
        9,
        15,
        ("german", "models.1.weight", "noise"),
    )
    assert 0 < estimate.flops_per_trial < estimate.flops
    assert sorted(path.name for path in project.iterdir()) == before


def test_candidates_are_scored_without_a_file(project: Path) -> None:
    read = read_search_recipe(project / "recipe.yaml")
    workspace, items = (
        SearchWorkspace(project / "out", models=None, seed=0, recipe=read),
        valid_items(project),
    )
    objective = OnItems(Judge(), items)
    plain = fill(read.document, {"german": 1, "models.1.weight": 0, "noise": 0})
    assert (
        objective(workspace.plan(plain)).value == objective(workspace.plan(alone("german"))).value
    )
    assert (
        objective(workspace.plan(alone("noise"))).value
        > objective(workspace.plan(alone("base"))).value
    )
    assert not (project / "out.work").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "method: random",
            "method: cmaes",
            (
                'search.method: "cmaes" is none of cma, optuna, grid, random, greedy — did you '
                'mean "cma"?'
            ),
        ),
        ("trials: 5", "trials: 0", "search.trials: 0 is not a whole number of at least 1"),
        ("trials: 5", "trails: 5", 'search: unknown key "trails" — did you mean "trials"?'),
        ("rows.jsonl", "row.jsonl", '"row.jsonl" is no table of the catalogue and no file'),
        (
            "{translation}",
            "{translatio}",
            'there is no column "translatio" — did you mean "translation"?',
        ),
        ("split: test", "split: valid", "items are in `valid` and in `test`"),
        ("split: test", "split: tset", "there are no items"),
        (
            "  test: {where: {split: test}, per_group: 5}\n",
            "",
            "search.test: does not say which rows",
        ),
        ("search:\n", "serach:\n", "search: is missing — write search: {records:"),
        (
            "method: random",
            "method: greedy",
            "greedy chooses among the experts of a recipe, and this one also has free parameters",
        ),
        ("model: noise", "model: nose", "nose"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    project: Path, old: str, new: str, message: str
) -> None:
    recipe = changed(project, old, new)
    with pytest.raises(PomonaError) as caught:
        search_merge(recipe, project / "best")
    assert message in str(caught.value)
    assert not list(project.glob("best*"))


def test_two_processes_do_not_share_an_output(project: Path) -> None:
    read = read_search_recipe(project / "recipe.yaml")
    workspace = SearchWorkspace(project / "best", models=None, seed=0, recipe=read)
    with (
        workspace.locked(),
        pytest.raises(PomonaError, match="best: another process is working on it — wait for it"),
    ):
        search_merge(project / "recipe.yaml", project / "best")


def test_an_output_that_is_there_is_not_searched_for(project: Path) -> None:
    (project / "best").mkdir()
    with pytest.raises(
        PomonaError,
        match="is there already — choose another name, or write over it with --overwrite",
    ):
        search_merge(project / "recipe.yaml", project / "best")


def test_another_recipe_does_not_go_on_with_the_log(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(project / "best.work", {"out": "best"})
    workspace.begin()
    (workspace.folder / "trials.jsonl").write_text('{"pomona_search": 1, "objective": "another"}\n')
    with pytest.raises(PomonaError, match="holds the beginning of another search"):
        search_merge(project / "recipe.yaml", project / "best")


def test_parts_may_take_every_row(project: Path) -> None:
    read = read_search_recipe(project / "recipe.yaml")
    document, folder = read.document, read.folder
    task = read_search(document)
    assert len(read_items(task, ItemSelection(), files_of(task, folder))) == 60
