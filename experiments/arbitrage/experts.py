"""Language experts: `ui-m`, trained on for a while on the languages of a family.

    python experiments/arbitrage/experts.py --out runs/arbitrage/experts [--tokens N] [--rate R]

Prints chrF on the validation items of the family's languages before and after.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from pomona import models, records, tasks
from pomona.train import TrainSettings, encode, fit, save_checkpoint

sys.path.insert(0, str(Path(__file__).parents[1]))
from _shared import DATA, ROOT

FAMILIES = {
    "germanic": ["de", "nl", "sv", "da", "nb", "af", "nn"],
    "slavic": ["ru", "pl", "cs", "uk", "be", "mk", "hsb"],
}


def items_of(split: str, langs: list[str], per_group: int | None) -> tasks.Items:
    """Items of these languages."""
    table = records.read(ROOT / "src/pomona/assets/ui/ui.parquet")
    rows = table.where(split=split, lang=langs).to_table()
    return tasks.limit(tasks.items_from(rows, DATA.prompt, DATA.completion, DATA.group), per_group)


def chrf_of(uri: str, items: tasks.Items) -> dict[str, float]:
    """chrF of greedy answers, by language."""
    chrf = tasks.metric("chrf")
    answers = [pool[0].text for pool in models.load(uri).generate(items.prompts, max_new_tokens=96)]
    told = chrf.statistics(answers, items.completions)
    groups = np.array(items.groups)
    of = {lang: told[groups == lang].sum(0) for lang in dict.fromkeys(items.groups)}
    of["all"] = told.sum(0)
    return {lang: round(float(chrf.aggregate(sums)), 1) for lang, sums in of.items()}


def train(family: str, out: Path, tokens: int, rate: float) -> None:
    """Make one expert."""
    langs = FAMILIES[family]
    valid, given = items_of("valid", langs, 100), items_of("train", langs, 1500)
    print(family, "ui-m", chrf_of("ui-m", valid), flush=True)
    folder = models.locate("ui-m")
    network = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    codec = models.Codec(folder, network, chat=False)
    examples = encode(codec, given.prompts, given.completions, max_tokens=256)
    settings = TrainSettings(tokens=tokens, batch_tokens=2048, learning_rate=rate)
    with tempfile.TemporaryDirectory() as scratch:
        fit(network, codec.tokenizer, examples, Path(scratch) / "work", settings)
    save_checkpoint(network, codec.tokenizer, out / family)
    print(family, f"{tokens:,} tokens at {rate:g}", chrf_of(str(out / family), valid), flush=True)


def main() -> None:
    """Make those that are not there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs/arbitrage/experts")
    parser.add_argument("--tokens", type=int, default=800_000)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for family in given.families:
        if not (given.out / family).exists():
            train(family, given.out, given.tokens, given.rate)


if __name__ == "__main__":
    main()
