"""`ui-s` translation: fine-tunings of an early checkpoint with ten seeds, each pruned, rounded to
8 and 4 bits, with the embeddings or without, and audited by chrF per item.

python experiments/forget/translation.py [--seeds 10]

A seed takes some minutes on an idle core; what is kept is in runs/forget, and a killed run goes on.
The seeds share the pretraining up to the checkpoint: what differs is what was learned after it.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from _populations import Arrays, kept, options, report
from transformers import AutoModelForCausalLM, AutoTokenizer

from pomona import models, records, tasks
from pomona.forget import compress
from pomona.text import count_words, letters_by_script, script_name
from pomona.train import TrainSettings, encode, fit, save_checkpoint

sys.path.append(str(Path(__file__).parents[1]))
from _shared import DATA, ROOT, items_of

BASE = "ui-s@40"
LEVELS = (0.3, 0.5, 0.7, 0.9, 0.95)
PER_LANGUAGE = 20  # test items
BATCH = 560


def variants() -> dict[str, dict[str, Any] | None]:
    """Every level by its name, and how it is made of a dense model."""
    told: dict[str, dict[str, Any] | None] = {"dense": None}
    for embeddings in (False, True):
        suffix = " +embeddings" if embeddings else ""
        for level in LEVELS:
            name = f"{level}{suffix}"
            told[name] = {"method": "magnitude", "level": level, "embeddings": embeddings}
        for method in ("int8", "int4"):
            told[f"{method}{suffix}"] = {"method": method, "embeddings": embeddings}
            if method == "int4":
                told[f"{method}{suffix}"]["group_size"] = 16  # type: ignore[index]
    return told


def tune(seed: int, folder: Path, tokens: int) -> None:
    """Train the checkpoint on, in an order of examples of its own."""
    place = models.locate(BASE)
    network = AutoModelForCausalLM.from_pretrained(
        place, dtype=torch.float32, attn_implementation="eager"
    )
    codec = models.Codec(place, network, chat=False)
    train = items_of("train")
    chosen = np.random.default_rng(seed).permutation(len(train.prompts))[: tokens // 20]
    prompts = [train.prompts[row] for row in chosen]
    completions = [train.completions[row] for row in chosen]
    settings = TrainSettings(
        tokens=tokens, batch_tokens=4096, learning_rate=2e-3, optimizer="muon", seed=seed
    )
    work = folder.with_name(f"{folder.name}.work")
    fit(
        network,
        codec.tokenizer,
        encode(codec, prompts, completions, max_tokens=256),
        work,
        settings,
    )
    save_checkpoint(network, codec.tokenizer, folder)
    shutil.rmtree(work, ignore_errors=True)


def scored(model: str | Path, items: tasks.Items) -> Arrays:
    """chrF of each item, 0 to 100."""
    chrf = tasks.metric("chrf")
    pools = models.load(str(model)).generate(items.prompts, max_new_tokens=96)
    found = chrf.statistics([pool[0].text for pool in pools], items.completions)
    return {"chrf": chrf.aggregate(found).astype(np.float32)}


def main() -> None:
    parser = options(__doc__, seeds=10)
    parser.add_argument("--tokens", type=int, default=400_000)
    parser.add_argument("--items", type=int, default=PER_LANGUAGE, help="test items a language")
    parser.add_argument("--levels", nargs="+", default=list(variants()))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    work: Path = arguments.work / f"translation-{arguments.tokens}-{arguments.items}"
    items, levels = items_of("test", arguments.items), variants()
    found: dict[tuple[str, int], Arrays] = {}
    for seed in range(arguments.seeds):
        folder = work / f"{seed}"
        for level in arguments.levels:

            def make(seed: int = seed, level: str = level, folder: Path = folder) -> Arrays:
                if not folder.exists():
                    tune(seed, folder, arguments.tokens)
                how = levels[level]
                if how is None:
                    return scored(folder, items)
                made = work / "compressed"
                compress(folder, made, overwrite=True, **how)
                return scored(made, items)

            found[level, seed] = kept(work / f"{seed}-{level}.npz", make)
            print(f"{level}, seed {seed}: {found[level, seed]['chrf'].mean():.2f}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)  # all of its answers are kept
    told = {"base": BASE, "tokens": arguments.tokens, "items": len(items.ids)}
    report(rows_of(found, items), arguments, "translation", **told)


def rows_of(found: dict[tuple[str, int], Arrays], items: tasks.Items) -> pa.Table:
    """The scores of all models, with what is known of their languages."""
    learned = records.read(ROOT / "src/pomona/assets/ui/ui.parquet")
    learned = learned.where(split="train", lang=DATA.groups).select("lang", "translation")
    resource: Counter[str] = Counter()
    letters: dict[str, Counter[str]] = {}
    words: Counter[str] = Counter()
    pieces: Counter[str] = Counter()
    tokenizer = AutoTokenizer.from_pretrained(models.locate(BASE))
    for row in learned.to_table().to_pylist():
        lang, text = row["lang"], row["translation"]
        resource[lang] += 1
        letters.setdefault(lang, Counter()).update(letters_by_script(text))
        if resource[lang] <= 300:
            words[lang] += count_words(text)
            pieces[lang] += len(tokenizer(text).input_ids)
    shared = {
        "id": pa.array(items.ids),
        "group": pa.array(items.groups),
        "cluster": pa.array(items.sources),
        "resource": pa.array([resource[lang] for lang in items.groups]),
        "script": pa.array(
            [script_name(letters[lang].most_common(1)[0][0]) for lang in items.groups]
        ),
        "fertility": pa.array([pieces[lang] / words[lang] for lang in items.groups]),
    }
    n = len(items.ids)
    return pa.concat_tables(
        [
            pa.table(
                {
                    **shared,
                    "level": [level] * n,
                    "seed": [str(seed)] * n,
                    "score": arrays["chrf"].astype(np.float64),
                }
            )
            for (level, seed), arrays in found.items()
        ]
    )


if __name__ == "__main__":
    main()
