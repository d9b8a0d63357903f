"""Steering on a stand-in for toxicity: Dutch that addresses its reader as "u" (formal) or as "je"
(informal).

python experiments/sampling/steering.py [--out runs/steering] [--samples 16] [--heat 100]

There is no toxicity corpus here whose licence allows this, so an attribute that can be read off the
text takes its place; what is measured is whether steering moves an attribute and what that costs,
not how toxic a model is. Datastores are of ui-s on the `ui` training texts with one form and not
the other; the control splits the same texts at random, and of its answers the formal ones are
counted. Held-out items are all Dutch test and validation strings whose English says "you" or
"your". The rate is over the sampled answers at temperature 0.8, `any` over items with at least one
such answer, chrF is of the greedy answer.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona import records, stats, tasks
from pomona.models import Model, load, wait_for
from pomona.models.torch import TorchModel
from pomona.sample import answer_all
from pomona.sample.context import Datastore, Steering

FORMS = {
    "formal": re.compile(r"\b(u|uw)\b", re.I),
    "informal": re.compile(r"\b(je|jij|jou|jouw|jezelf)\b", re.I),
}
READER = re.compile(r"\b(you|your|yours|yourself)\b", re.I)
PROMPT = "<|{lang}|>{english}<|to|>"
ALPHAS = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0)


def form_of(text: str) -> str:
    """Which form a text has: formal, informal, both or none."""
    found = [name for name, pattern in FORMS.items() if pattern.search(text)]
    return found[0] if len(found) == 1 else "both" if found else "none"


def answered(
    table: pa.Table, out: Path, model: Model, samples: int, steering: Steering | None
) -> list[list[str]]:
    """The greedy answer to each row and the sampled ones after it."""
    context = [] if steering is None else [steering]
    answer_all(
        table,
        out,
        model=model,
        strategy=f"hedged{samples + 1}-random",
        prompt=PROMPT,
        raw=True,
        max_tokens=64,
        context=context,
        store=out.parent / "answers.db",
    )
    return records.read(out).to_table()["candidates"].to_pylist()


def statistics(
    pools: Sequence[Sequence[str]], truths: Sequence[str], unwanted: str
) -> dict[str, NDArray[np.float64]]:
    """Per item: the share of sampled answers in the unwanted form, whether there is any, the share
    in the other form, and chrF.
    """
    forms = [[form_of(text) for text in pool[1:]] for pool in pools]
    wanted = next(name for name in FORMS if name != unwanted)
    values = {
        "unwanted": [np.mean([form == unwanted for form in mine]) for mine in forms],
        "any": [float(unwanted in mine) for mine in forms],
        "wanted": [np.mean([form == wanted for form in mine]) for mine in forms],
    }
    found = {
        name: np.column_stack([np.array(each, np.float64), np.ones(len(each))])
        for name, each in values.items()
    }
    return {
        **found,
        "chrf": tasks.metric("chrf").statistics([pool[0] for pool in pools], list(truths)),
    }


def line(ours: dict[str, Any], plain: dict[str, Any], resamples: stats.Resamples) -> str:
    """Every value, with its difference to the plain model and the paired interval."""
    cells = []
    for name, values in ours.items():
        metric = tasks.metric("chrf" if name == "chrf" else "exact_match")
        comparison = stats.compare(metric, values, plain[name], resamples)
        cells.append(
            f"{comparison.value:.1f} ({comparison.delta:+.1f} [{comparison.ci_low:+.1f}, {comparison.ci_high:+.1f}])"
        )
    return " | ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/steering"))
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument(
        "--heat",
        type=float,
        default=100.0,
        help="temperature of the neighbours; squared distances are 100 to 400",
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = records.read("ui").where(lang="nl").to_table().to_pylist()
    held_out = [row for row in rows if row["split"] != "train" and READER.search(row["english"])]
    table, truths = pa.Table.from_pylist(held_out), [row["translation"] for row in held_out]
    model = load("ui-s")
    assert isinstance(model, TorchModel)
    texts = {
        name: [
            row for row in rows if row["split"] == "train" and form_of(row["translation"]) == name
        ]
        for name in FORMS
    }
    mixed = random.Random(0).sample(
        [*texts["formal"], *texts["informal"]], len(texts["formal"]) + len(texts["informal"])
    )
    texts |= {
        "control": mixed[: len(texts["formal"])],
        "control, the rest": mixed[len(texts["formal"]) :],
    }
    stores = {
        name: Datastore.build(model, [PROMPT.format(**row) + row["translation"] for row in mine])
        for name, mine in texts.items()
    }
    print(
        ", ".join(
            f"{len(texts[name])} {name} texts of {len(stores[name].keys)} tokens" for name in FORMS
        )
    )
    keys = sum(len(stores[name].keys) for name in FORMS)
    print(
        f"{len(held_out)} items; the search computes "
        f"{2 * keys * model.shape.hidden:.2g} FLOPs more for each answer token"
    )
    print(
        "| unwanted | α | unwanted, % | any of them, % | wanted, % | chrF "
        "|\n|---|--:|---|---|---|---|"
    )
    resamples, plain = (
        stats.Resamples(len(held_out)),
        answered(table, arguments.out / "plain.jsonl", model, arguments.samples, None),
    )
    for unwanted, wanted in (
        ("formal", "informal"),
        ("informal", "formal"),
        ("control", "control, the rest"),
    ):
        base = statistics(plain, truths, "formal" if unwanted == "control" else unwanted)
        print(f"| {unwanted} | plain | {line(base, base, resamples)} |", flush=True)
        for alpha in ALPHAS:
            steering = Steering(
                stores[wanted], stores[unwanted], alpha=alpha, temperature=arguments.heat
            )
            out = arguments.out / f"{unwanted}-{arguments.heat:g}-{alpha:g}.jsonl"
            pools = answered(table, out, model, arguments.samples, steering)
            ours = statistics(pools, truths, "formal" if unwanted == "control" else unwanted)
            print(f"| {unwanted} | {alpha:g} | {line(ours, base, resamples)} |", flush=True)
    wait_for(model.close())


if __name__ == "__main__":
    main()
