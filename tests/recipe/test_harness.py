"""Recipes whose task is one of lm-evaluation-harness, where the package is installed:
`make test-harness`.
"""

# ruff: noqa: F811 - fixtures are imported, and named again by who takes them

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from pomona.errors import PomonaError
from pomona.ledger import Entry, Ledger
from pomona.recipe import dry_run, run

pytest.importorskip("lm_eval", reason="needs lm-eval: make test-harness")
pytestmark = pytest.mark.filterwarnings("ignore")

from tests.tasks.test_harness import (  # noqa: E402, F401 - fixtures
    LIKELIHOODS,
    _key,
    cache,
    folder,
    model,
    paths,
    theirs,
    write,
)

RECIPE = """\
name: measured
dtype: float32
task: {harness: TASK, tail: 0, resamples: 1000}
base: ui-s
"""


def recipe(place: Path, task: object, more: str = "") -> Path:
    place.mkdir(exist_ok=True)
    path = place / "recipe.yaml"
    path.write_text(RECIPE.replace("TASK", str(task)) + more)
    return path


def of(ledger: Ledger, variant: str, metric: str) -> Entry:
    entries = (e for e in ledger.entries if (e.metric, e.group) == (metric, "overall"))
    return next(e for e in entries if (e.variant, e.baseline) == (variant, ledger.meta.base))


@pytest.mark.parametrize("name", ["generation", "choice", "completion", "rolling"])
def test_the_figures_of_a_ledger_are_those_of_lm_eval(
    name: str, paths: dict[str, Path], theirs: Any, tmp_path: Path
) -> None:
    ledger = Ledger.read(run(recipe(tmp_path, paths[name]), tmp_path / "run") / "ledger.json")
    numbers, _ = theirs[name]
    assert {_key(e.metric) for e in ledger.entries} == set(numbers)
    for key, number in numbers.items():
        metric = next(e.metric for e in ledger.entries if _key(e.metric) == key)
        rounding = 1e-5 * (metric in LIKELIHOODS)
        entry = of(ledger, "ui-s", metric)
        assert entry.value == pytest.approx(number, abs=1e-9, rel=rounding), metric
        assert entry.signature.startswith(f"{key.partition(',')[0]}|filter:")
        assert "|task:" in entry.signature and "|boot:1000|holm:group" in entry.signature
        assert (entry.flops_per_item or 0) > 0 and (entry.tokens_per_item or 0) > 0
    controls = {e.variant for e in ledger.entries if e.lever == "control"}
    assert controls == {"generation": {"copy"}, "choice": {"chance"}}.get(name, set())
    if name == "choice":
        one = {of(ledger, "chance", metric).value for metric in ("acc", "acc_norm", "acc_bytes")}
        assert len(one) == 1 and of(ledger, "chance", "exact_match").value in one


def test_strategies_and_stacks_are_measured_on_it(paths: dict[str, Path], tmp_path: Path) -> None:
    more = "levers: {sampling: {strategies: [hedged3-mbr, sample4-vote-text]}, context: {think: true}}\n"
    more += "stacks: [[context/think, hedged3-mbr]]\n"
    task = f'{{task: "{paths["generation"]}", metrics: [chrf, "exact_match,first-number"]}}'
    ledger = Ledger.read(run(recipe(tmp_path, task, more), tmp_path / "run") / "ledger.json")
    assert (ledger.meta.metric, ledger.meta.higher) == ("chrf", {"exact_match,first-number": True})
    hope, risk = (of(ledger, f"hedged3/{name}", "chrf").value for name in ("hope", "risk"))
    chosen = of(ledger, "hedged3-mbr", "chrf")
    assert hope > risk and chosen.optimised  # item by item: the whole may be another way round
    assert not of(ledger, "hedged3-mbr", "exact_match,first-number").optimised
    assert of(ledger, "context/think + hedged3-mbr", "chrf").lever == "stack"


def test_clusters_groups_and_documents_are_those_that_are_named(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    task = f'{{task: "{paths["choice"]}", group: project, limit: 9}}, cluster: project'
    path = recipe(tmp_path, task)
    out = run(path, tmp_path / "run")
    ledger = Ledger.read(out / "ledger.json")
    assert {e.group for e in ledger.entries} == {"overall", "p0", "p1", "p2"}
    assert all(
        "|cluster:project|" in e.signature and "|n:9|" in e.signature for e in ledger.entries
    )
    assert all(row["state"] == "done" for row in dry_run(path, tmp_path / "run").rows())
    path.write_text(path.read_text().replace("limit: 9", "limit: 6"))
    assert not any(row["state"] == "done" for row in dry_run(path, tmp_path / "run").rows())


def test_what_a_task_cannot_be_measured_with_is_told_before_anything_is_done(
    paths: dict[str, Path], tmp_path: Path
) -> None:
    choice = paths["choice"]
    lever = "levers: {sampling: {strategies: [hedged3-mbr]}}\n"
    served = recipe(tmp_path, choice).read_text().replace("ui-s", "http://h/v1#m")
    for text, message in (
        (served, r'needs a model that can score given text \("score"\), and a server does not'),
        (
            recipe(tmp_path, choice, lever).read_text(),
            'hedged3-mbr: the lever "sampling" changes answers, and ".*choice.yaml" reads none',
        ),
        (
            recipe(tmp_path, f"{choice}, cluster: nothing").read_text(),
            'there is no column "nothing"',
        ),
        (
            recipe(tmp_path, f'{{task: "{choice}", metrics: [ac]}}').read_text(),
            'choice.yaml: has no metric "ac" — did you mean "acc"',
        ),
    ):
        (tmp_path / "recipe.yaml").write_text(text)
        with pytest.raises(PomonaError, match=message):
            dry_run(tmp_path / "recipe.yaml", tmp_path / "never")


def test_the_recipe_of_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "harness.md").read_text()
    task, asked = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (rows,) = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    for name, block in (("colours.yaml", task), ("recipe.yaml", asked), ("colours.jsonl", rows)):
        (tmp_path / name).write_text(block)
    monkeypatch.chdir(tmp_path)
    ledger = Ledger.read(run("recipe.yaml", "run") / "ledger.json")
    assert {e.variant for e in ledger.entries} == {"ui-xs", "ui-s", "chance"}
    assert {e.metric for e in ledger.entries} == {"acc_norm", "acc"}
