"""Win rates against the base, as people voted and as a judge says."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv
from tests.recipe.conftest import checkpoint

from pomona.arena import pairs
from pomona.errors import PomonaError
from pomona.ledger import Entry, Ledger
from pomona.recipe import answers_of, load_recipe, run

RECIPE = """\
name: small
seed: 3
data: {records: rows.jsonl, group: group}
task:
  where: {split: test}
  tail: 0
  max_new_tokens: 8
base: hf:model
levers:
  sampling: {strategies: [hedged3-mbr]}
"""
LEVER = "hedged3-mbr"


def of(out: Path, variant: str, group: str = "overall", metric: str = "win_rate") -> Entry:
    found = [
        e
        for e in Ledger.read(out / "ledger.json").entries
        if (e.variant, e.group, e.metric) == (variant, group, metric)
    ]
    assert len(found) == 1, found
    return found[0]


def test_votes_on_the_pairs_of_a_run_are_its_win_rate(project: Path) -> None:
    recipe, out = project / "recipe.yaml", project / "run"
    recipe.write_text(RECIPE, encoding="utf-8")
    run(recipe, out)
    two = [answers_of(out, name) for name in (LEVER, "base")]
    pairs(two, out=project / "pairs.parquet", per_item=1)
    shown = pq.read_table(project / "pairs.parquet")
    rng = np.random.default_rng(0)
    votes, won = [], dict[str, list[float]]()
    for row in shown.to_pylist()[:20]:
        for _ in range(2):
            winner = rng.choice(["model_a", "model_b", "tie", "tie (bothbad)"])
            votes.append({k: row[k] for k in ("item", "model_a", "model_b")} | {"winner": winner})
            value = 0.5 if "tie" in winner else float(row[winner] == LEVER)
            won.setdefault(row["item"], []).append(value)
    csv.write_csv(pa.Table.from_pylist(votes), project / "votes.csv")
    task = "task:\n  win_rate: {votes: votes.csv}\n"
    recipe.write_text(RECIPE.replace("task:\n", task), encoding="utf-8")
    run(recipe, out)
    entry = of(out, LEVER)
    assert entry.value == pytest.approx(100 * np.mean([v for each in won.values() for v in each]))
    assert entry.baseline == "hf:model" and entry.delta == pytest.approx(entry.value - 50)
    assert entry.ci_low < entry.delta < entry.ci_high and entry.scale_equivalent is None
    assert of(out, "hf:model").value == 50
    notes = Ledger.read(out / "ledger.json").meta.notes
    assert any("by people's votes: 20 verdicts" in note for note in notes)
    assert any(note.startswith("Nobody voted on") and "copy" in note for note in notes)
    assert "win_rate" in (out / "report.html").read_text(encoding="utf-8")


def test_a_judge_is_asked_about_both_orders_and_once(project: Path) -> None:
    recipe, out = project / "recipe.yaml", project / "run"
    checkpoint(project / "judge", 24)
    task = "task:\n  win_rate: {judge: hf:judge, per_group: 4, variants: [hedged3-mbr, copy]}\n"
    recipe.write_text(RECIPE.replace("task:\n", task), encoding="utf-8")
    run(recipe, out)
    for variant in (LEVER, "copy"):
        folder = next(out.glob(f"steps/judge-{variant}-by-*"))
        rows = pq.read_table(folder / "wins.parquet").to_pylist()
        judged = [row for row in rows if row["value"] is not None]
        assert len(judged) <= 12 and all(row["value"] in (0, 0.5, 1) for row in judged)
        for row in judged:
            if row["orders"]:
                assert row["value"] == (row["orders"][0] + row["orders"][1]) / 2
        if judged:
            mean = 100 * np.mean([row["value"] for row in judged])
            assert of(out, variant).value == pytest.approx(mean)
    notes = " ".join(Ledger.read(out / "ledger.json").meta.notes)
    assert re.search(r"Win rates are against hf:model, by hf:judge: \d+ verdicts", notes)
    before = {path: path.stat().st_mtime_ns for path in out.glob("steps/*/step.json")}
    run(recipe, out)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("{}", 'who says what is better is "judge" or "votes", one of them'),
        ("{judge: a, votes: b}", 'who says what is better is "judge" or "votes"'),
        ("{votes: v.csv, flips: tie}", '"flips" is of a judge'),
        ("{judge: a, flips: no}", "flips"),
    ],
)
def test_mistakes(project: Path, asked: str, said: str) -> None:
    path = project / "recipe.yaml"
    task = f"task:\n  win_rate: {asked}\n"
    path.write_text(RECIPE.replace("task:\n", task), encoding="utf-8")
    with pytest.raises(PomonaError) as told:
        load_recipe(path)
    assert said in str(told.value) and "line 5" in str(told.value)
