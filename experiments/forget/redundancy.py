"""How much of ui-l can be predicted from a random part of it (Denil et al. 2013), at 1 % and 5 % loss of
chrF: matrices predicted as they are, and the small part trained alone with a fixed dictionary. Losses are
those to the model as it is, beside which the whole model trained as long stands as a control. Items are
of `test`, texts and training rows of `train`, all in the languages of the ladder.

python experiments/forget/redundancy.py [--model ui-l] [--items 400] [--tokens 300000]

Each finished part is a file of the work folder, and a training there goes on from its last checkpoint:
after a kill the same command continues. The result is experiments/forget/results/redundancy.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pomona import models, stats, tasks
from pomona.files import write_json
from pomona.forget import redundancy, second_moments, with_dictionaries, without_dictionaries
from pomona.records import read
from pomona.train import TrainSettings, encode, fit, save_checkpoint, temperature_repeats

sys.path.append(str(Path(__file__).parents[1]))
from _shared import DATA

PREDICTED = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95]
TRAINED = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7]
KINDS = ("covariance", "random")
DOMAINS = ("django", "wagtail", "oscar", "cms")
LANGUAGES = set(DATA.groups or ())
LONGEST = 64  # tokens of an answer
OUT = Path(__file__).with_name("results") / "redundancy.json"


def rows_of(split: str, count: int, seed: int) -> pa.Table:
    """Rows of a split, drawn by chance, as prompts and completions."""
    table = read("ui", columns=["english", "translation", "lang", "split", "domain"]).to_table()
    keep = [
        row
        for row in table.to_pylist()
        if row["split"] == split and row["domain"] in DOMAINS and row["lang"] in LANGUAGES
    ]
    drawn = np.random.default_rng(seed).permutation(len(keep))[:count]
    return pa.table(
        {
            "prompt": [f"<|{keep[i]['lang']}|>{keep[i]['english']}<|to|>" for i in drawn],
            "completion": [keep[i]["translation"] for i in drawn],
            "group": [keep[i]["lang"] for i in drawn],
            "cluster": [keep[i]["english"] for i in drawn],
        }
    )


class Trained:
    """The model trained on for a few tokens, with the small part alone or whole."""

    def __init__(self, given: argparse.Namespace, items: pa.Table, texts: Path) -> None:
        self.given, self.items, self.texts = given, items, texts
        self.folder = models.locate(given.model)
        self.metric = tasks.metric("chrf")

    def statistics(self, folder: Path) -> NDArray[np.float64]:
        """chrF of a checkpoint's answers, item by item."""
        model: Any = models.load(str(folder), dtype="float32")
        pools = model.generate(self.items["prompt"].to_pylist(), max_new_tokens=LONGEST)
        answers = [pool[0].text for pool in pools]
        return self.metric.statistics(answers, self.items["completion"].to_pylist())

    def run(self, kind: str, fraction: float, work: Path) -> NDArray[np.float64]:
        """Train `fraction` of each matrix, all of it where it is 1, and answer the items."""
        model: Any = models.load(str(self.folder), dtype="float32")
        network, codec = model.network.requires_grad_(True), model.codec
        if fraction < 1:
            names = [
                f"{n}.weight"
                for n, m in network.named_modules()
                if ".layers." in n and isinstance(m, torch.nn.Linear)
            ]
            texts = [
                f"{row['prompt']}{row['completion']}"
                for row in read(self.texts).to_table().to_pylist()
            ]
            moments = second_moments(self.folder, texts, names, lambda *_: None)
            with_dictionaries(network, fraction, kind=kind, moments=moments)  # pyright: ignore
        rows = rows_of("train", 60_000, 1)
        examples = encode(
            codec,
            rows["prompt"].to_pylist(),
            rows["completion"].to_pylist(),
            max_tokens=128,
            repeats=temperature_repeats(rows["group"].to_pylist(), 3),
        )
        settings = TrainSettings(
            tokens=self.given.tokens, learning_rate=1e-3 if fraction < 1 else 1e-4, save_every=20
        )
        fit(network.train(), codec.tokenizer, examples, work, settings)
        without_dictionaries(network)
        save_checkpoint(network.eval(), codec.tokenizer, work / "model", torch.float32)
        return self.statistics(work / "model")


def parts(trained: Trained) -> Iterator[tuple[str, float]]:
    """What is trained: the whole model as the control, and its small parts."""
    yield "whole", 1.0
    for fraction in trained.given.trained:
        for kind in KINDS:
            yield kind, fraction


def predicted(given: argparse.Namespace, items: Path, texts: Path) -> list[dict[str, Any]]:
    """Each fraction by itself, so that a kill costs one."""
    found: list[dict[str, Any]] = []
    for fraction in given.predicted:
        file = given.work / f"predicted-{fraction}.json"
        if not file.exists():
            told = redundancy(
                given.model, items, texts=texts, fractions=(fraction,), max_new_tokens=LONGEST
            )
            write_json(file, told.to_json())
        found.append(json.loads(file.read_text()))
    return found


def lost(point: dict[str, Any]) -> float:
    """Loss in per cent of what it is compared with."""
    return -100 * point["difference"] / (point["value"] - point["difference"])


def predictable(points: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The largest share that was predicted at 1 % and 5 % loss, by kind."""
    shares: dict[str, dict[str, float | None]] = {}
    for kind in dict.fromkeys(point["kind"] for point in points):
        own = [point for point in points if point["kind"] == kind]
        shares[kind] = {
            f"{limit} %": max(
                (round(1 - p["fraction"], 6) for p in own if lost(p) <= limit), default=None
            )
            for limit in (1, 5)
        }
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ui-l")
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--predicted", type=float, nargs="+", default=PREDICTED)
    parser.add_argument("--trained", type=float, nargs="*", default=TRAINED)
    parser.add_argument("--work", type=Path, default=Path("runs/redundancy"))
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    items, texts = given.work / "items.parquet", given.work / "texts.parquet"
    if not texts.exists():
        import pyarrow.parquet as pq

        pq.write_table(rows_of("test", given.items, 0), items)
        pq.write_table(rows_of("train", 400, 2), texts)
    told = predicted(given, items, texts)
    trained = Trained(given, read(items).to_table(), texts)
    draws = stats.Resamples(given.items, 1000, 0, trained.items["cluster"].to_pylist())
    points: list[dict[str, Any]] = []
    base = trained.statistics(trained.folder)
    for kind, fraction in parts(trained):
        file = given.work / f"trained-{kind}-{fraction}.npy"
        if not file.exists():
            made = trained.run(kind, fraction, given.work / f"training-{kind}-{fraction}")
            np.save(file, made)
        own = np.load(file)
        c = stats.compare(trained.metric, own, base, draws)
        points.append(
            {
                "kind": kind, "fraction": fraction, "value": c.value, "difference": c.delta,
                "ci_low": c.ci_low, "ci_high": c.ci_high,
            }
        )  # fmt: skip
        print(json.dumps(points[-1]), flush=True)
    untrained = [point for one in told for point in one["points"]]
    write_json(
        given.out,
        {
            "model": given.model, "items": given.items, "tokens": given.tokens,
            "signatures": [one["signature"] for one in told], "value": told[0]["value"],
            "predicted": {"points": untrained, "predictable": predictable(untrained)},
            "trained": {"points": points, "predictable": predictable(points[1:])},
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()
