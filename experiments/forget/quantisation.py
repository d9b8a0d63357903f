"""What a further quantisation of SmolLM2 costs in 20 languages: parallel strings of `ui` that all of
them have, and the comparison of `pomona forget compare` at several types.

    python experiments/forget/quantisation.py --out experiments/forget/results/quantisation.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from pomona.files import write_text
from pomona.forget import compare_models, compress
from pomona.models import pull
from pomona.records import read

LANGUAGES = [
    "ar",
    "cs",
    "de",
    "el",
    "en",
    "es",
    "fa",
    "fr",
    "he",
    "hi",
    "it",
    "ja",
    "ko",
    "nl",
    "pl",
    "pt",
    "ru",
    "tr",
    "uk",
    "zh_Hans",
]
TEXTS = Path("examples/languages.jsonl")
KEPT = [
    "n",
    "bytes",
    "lost",
    "gained",
    "p_mcnemar",
    "p_holm",
    "metric_a",
    "metric_b",
    "metric_difference",
    "metric_low",
    "metric_high",
    "p_metric_holm",
]
STRINGS, SHORTEST, LONGEST = 20, 40, 90


def texts() -> str:
    """JSON lines: text, group (language) and cluster (the English string)."""
    table = read("ui").select("lang", "english", "translation").to_table().to_pylist()
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for row in table:
        found[row["english"]] |= {row["lang"]: row["translation"], "en": row["english"]}
    whole = [
        english
        for english, said in found.items()
        if all(lang in said for lang in LANGUAGES)
        and SHORTEST <= len(english) <= LONGEST
        and not any(mark in english for mark in "%{<\n")
    ]
    chosen = np.random.default_rng(0).permutation(sorted(whole))[:STRINGS]
    rows = [
        {"text": found[english][lang], "group": lang, "cluster": english}
        for lang in LANGUAGES
        for english in chosen.tolist()
    ]
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def figures(change: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a group."""
    told = {name: change[name] for name in KEPT}
    ends = ("value", "ci_low", "ci_high")
    return told | {n: {end: change[n][end] for end in ends} for n in ("kl", "same_top", "delta_p")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--kinds", nargs="+", default=["Q3_K_M"])
    given = parser.parse_args()
    write_text(TEXTS, texts())
    pull("smollm2")
    results = {}
    for kind in given.kinds:
        file = given.out.with_name(f"smollm2-{kind}.gguf")
        if not file.exists():
            compress("smollm2", file, method=kind)
        started = time.process_time()
        told = compare_models("smollm2", f"gguf:{file}", text=str(TEXTS))
        said = told.to_json()
        results[kind] = {
            "cpu_seconds": round(time.process_time() - started),
            "signature": told.signature,
            "overall": figures(said["overall"]),
            "groups": {name: figures(change) for name, change in said["groups"].items()},
        }
    write_text(given.out, json.dumps(results, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
