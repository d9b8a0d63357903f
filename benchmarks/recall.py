"""What minhash finds among 100,000 documents, beside theory: recall of planted pairs by decile of
their true Jaccard similarity.

Documents are pairs of 45 words that share their first words, from none to all. Recall is that of
the bands (16 of 8 hashes), every pair confirmed; then as by default, where no removed pair may be
below the threshold.
    python benchmarks/recall.py --documents 100000 --out benchmarks/results/recall.json
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _machine import machine

from pomona.data.duplicates import dedup
from pomona.files import write_json
from pomona.shingles import s_curve

WORDS, SHINGLE, BANDS, ROWS, THRESHOLD = 45, 5, 16, 8, 0.8


def planted(pairs: int, seed: int) -> list[str]:
    """Documents 2i and 2i + 1 share their first words, from five to all of them."""
    draw = np.random.default_rng(seed)
    first, second = draw.integers(0, 1 << 20, (2, pairs, WORDS))
    shared = np.arange(WORDS) < draw.integers(SHINGLE, WORDS + 1, (pairs, 1))
    second[shared] = first[shared]
    return [
        " ".join(map(str, row))
        for two in zip(first.tolist(), second.tolist(), strict=True)
        for row in two
    ]


def jaccard(one: str, other: str) -> float:
    """Of the sets of all runs of five words, by Python's sets."""
    sets = []
    for text in (one, other):
        words = text.split()
        sets.append({tuple(words[at : at + SHINGLE]) for at in range(len(words) - SHINGLE + 1)})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def removed(texts: list[str], folder: Path, **options: Any) -> list[dict[str, Any]]:
    """The evidence for every removed document."""
    out = folder / "out.parquet"
    dedup(
        pa.table({"text": texts}),
        out,
        shingle="word",
        shingle_size=SHINGLE,
        n_bands=BANDS,
        rows_per_band=ROWS,
        **options,
    )
    return pq.read_table(f"{out}.pairs.parquet").to_pylist()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/recall.json"))
    arguments = parser.parse_args()
    texts = planted(arguments.documents // 2, arguments.seed)
    truths = np.array([jaccard(texts[at], texts[at + 1]) for at in range(0, len(texts), 2)])
    hit = np.zeros(len(truths), bool)
    with tempfile.TemporaryDirectory() as temporary:
        hit[[pair["removed"] // 2 for pair in removed(texts, Path(temporary), threshold=1e-9)]] = (
            True
        )
        pairs = removed(texts, Path(temporary), threshold=THRESHOLD)
    theory = s_curve(BANDS, ROWS, truths)
    deciles = []
    for decile in range(10):
        here = (truths >= decile / 10) & (truths < (decile + 1) / 10 + (decile == 9))
        noise = np.sqrt((theory[here] * (1 - theory[here])).sum()) / here.sum()
        row = {"recall": hit[here].mean(), "theory": theory[here].mean(), "standard_error": noise}
        deciles.append(
            {
                "from": decile / 10,
                "pairs": int(here.sum()),
                **{name: round(float(value), 4) for name, value in row.items()},
            }
        )
    below = sum(jaccard(texts[pair["row_a"]], texts[pair["row_b"]]) < THRESHOLD for pair in pairs)
    result = {
        "documents": len(texts),
        "seed": arguments.seed,
        "most_points_from_theory": round(
            max(abs(row["recall"] - row["theory"]) for row in deciles) * 100, 2
        ),
        "removed_at_0.8": len(pairs),
        "removed_below_0.8": below,
        "recall_at_0.8": round(len(pairs) / int((truths >= THRESHOLD).sum()), 4),
        "theory_at_0.8": round(float(theory[truths >= THRESHOLD].mean()), 4),
        "deciles": deciles,
    }
    write_json(arguments.out, {"machine": machine(), **result})
    print(result)


if __name__ == "__main__":
    main()
