"""Students of `ui-s`: what teachers write for the empty cells of six languages of the tail, by every
policy, at as many answers and as many training tokens.

    python experiments/arbitrage/students.py [--seeds N] [--project NAME] [--out FILE]

With `--project django` only cells of that project are filled, which is the one that most of these
languages have test items of.

Runs students.yaml beside this file into runs/arbitrage/students, which goes on after a kill, and
writes chrF (also with β 1, and exact match) of every student, for each language and for the four
that have pivots together, on items of projects that are trained on (warm) and of Sphinx (cold),
with differences to the controls: intervals over clusters of the English source, and over seeds.
The experts of experts.py get the `training.json` that says what they cost.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from numpy.typing import NDArray

from pomona.ledger import Ledger
from pomona.models import count_parameters, locate
from pomona.recipe import answers_of, run, systems_of
from pomona.stats import Resamples, compare, interval, value_of
from pomona.tasks import Metric, metric

HERE = Path(__file__).parent
RUNS = HERE.parents[1] / "runs/arbitrage"
EXPERT_TOKENS = 1_000_000
PIVOTED = ("af", "be", "mk", "nn")
CONTROLS = ("ui-s", "all data", "synthesis/real rows", "synthesis/single pivots", "synthesis/fixed")
METRICS = {"chrf": metric("chrf"), "chrf, beta 1": metric({"name": "chrf", "beta": 1})}
METRICS["exact match"] = metric("exact_match")


def prepare() -> None:
    """Experts with what their training cost, that of `ui-m` before it included."""
    before = json.loads((locate("ui-m") / "training.json").read_text())
    for expert in sorted((RUNS / "experts").iterdir()):
        target = RUNS / "teachers" / expert.name
        if not (target / "training.json").is_file():
            shutil.copytree(expert, target, dirs_exist_ok=True)
            (target / ".pomona.json").unlink(missing_ok=True)
            flops = before["flops"] + 6.0 * count_parameters(target) * EXPERT_TOKENS
            told = {"tokens": before["tokens"] + EXPERT_TOKENS, "flops": flops}
            (target / "training.json").write_text(json.dumps(told))


def parts_of(table: pa.Table) -> dict[str, NDArray[np.intp]]:
    """Rows of each language, of the pivoted and of all that were filled, warm and cold."""
    groups = np.array(table["group"].to_pylist())
    warm = np.array(table["familiarity"].to_pylist()) == "warm"
    sets = {group: groups == group for group in dict.fromkeys(groups.tolist())}
    sets = {
        "four with pivots": np.isin(groups, PIVOTED),
        "hsb and cy": np.isin(groups, ["hsb", "cy"]),
    } | sets
    parts = {}
    for name, inside in sets.items():
        for half, where in (("warm", warm), ("cold", ~warm)):
            if (inside & where).sum() >= 20:
                parts[f"{name}, {half}"] = np.flatnonzero(inside & where)
    return parts


def measured(out: Path, resamples: int = 5000) -> dict[str, Any]:
    """Every student by every metric on every part, with its differences to the controls."""
    systems = systems_of(out)
    tables = {
        name: [answers_of(out, name, seed) for seed in seeds] for name, seeds in systems.items()
    }
    first = tables["ui-s"][0]
    told: dict[str, Any] = {}
    for label, one in METRICS.items():
        statistics = {name: _statistics(one, each) for name, each in tables.items()}
        for part, rows in parts_of(first).items():
            clusters = [first["cluster"][int(row)].as_py() for row in rows]
            draws = Resamples(len(rows), resamples, 0, clusters)
            for number, (name, each) in enumerate(statistics.items()):
                low, high = interval(one, each[:, rows], draws)
                value = value_of(one, each[:, rows])
                entry: dict[str, Any] = {"value": [round(v, 2) for v in (value, low, high)]}
                for other, control in enumerate(statistics):
                    if control in CONTROLS and control != name:
                        its, both = statistics[control][:, rows], (number, other)
                        found = compare(one, each[:, rows], its, draws, systems=both)
                        told_of = (found.delta, found.ci_low, found.ci_high)
                        entry[f"above {control}"] = [round(v, 2) for v in told_of]
                where = told.setdefault(label, {}).setdefault(part, {})
                where[name] = entry
                where["items"], where["sources"] = len(rows), draws.units
    return told


def _statistics(one: Metric, tables: list[pa.Table]) -> NDArray[np.float64]:
    """`[seeds, items, k]`."""
    references = tables[0]["reference"].to_pylist()
    return np.stack([one.statistics(t["prediction"].to_pylist(), references) for t in tables])


def results(folder: Path) -> dict[str, Any]:
    """What a finished run says: what each policy bought and what that cost, and its student."""
    ledger = Ledger.read(folder / "ledger.json")
    cards = [
        json.loads(p.read_text()) for p in sorted(folder.glob("steps/buy-by-*/synthesis.json"))
    ]
    return {
        "teaching": [vars(one) for one in ledger.meta.teaching],
        "bought": {card["policy"]: card for card in cards},
        "measured": measured(folder),
    }


def dumped(told: Any) -> str:
    """JSON with lists of numbers on one line."""
    text = json.dumps(told, indent=1, ensure_ascii=False)
    return re.sub(r"\[([-\d.,\s]+)\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def main() -> None:
    """Run, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each student")
    parser.add_argument("--project", help="fill cells of this one alone")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    prepare()
    recipe = yaml.safe_load((HERE / "students.yaml").read_text())
    if given.project:
        recipe["name"] += f"-{given.project}"
        part = recipe["levers"]["synthesis"]
        part["where"]["domain"] = given.project
        part["policies"] = ["single pivots", "fixed", "reward", "all"]
    folder = RUNS / recipe["name"]
    recipe["train"]["seeds"] = given.seeds
    asked = HERE / f".{recipe['name']}-{given.seeds}.yaml"
    asked.write_text(yaml.safe_dump(recipe, sort_keys=False))
    try:
        run(asked, folder)
    finally:
        asked.unlink()
    told = {"seeds": given.seeds, **results(folder)}
    out = given.out or HERE / f"results/{recipe['name']}.json"
    out.write_text(dumped(told) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
