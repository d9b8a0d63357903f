"""What is saved by stopping once answers agree: `ui-s` on ten test items a language, sixteen hedged
answers at most, four at a time.

python experiments/sampling/stopping.py [--out runs/stopping]
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import pyarrow as pa
import yaml

from pomona import records
from pomona.sample import answer_all

STRATEGIES = ("hedged16-mbr", "hedged16-mbr-stop0.5", "hedged16-mbr-stop0.7", "hedged5-mbr")
GROUPS: list[str] = yaml.safe_load(Path(__file__).with_name("translation.yaml").read_text())[
    "data"
]["groups"]


def sampled(per_group: int, seed: int) -> pa.Table:
    """Rows of the test split, as many of each language."""
    rows = records.read("ui").where(split="test", lang=GROUPS).to_table().to_pylist()
    draw = random.Random(seed)
    by_group = {group: [row for row in rows if row["lang"] == group] for group in GROUPS}
    return pa.Table.from_pylist(
        [row for mine in by_group.values() for row in draw.sample(mine, min(per_group, len(mine)))]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/stopping"))
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    table = sampled(10, seed=0)
    print("| strategy | chrF over greedy | FLOPs | pools that stopped |\n|---|---|--:|--:|")
    for name in STRATEGIES:
        card = answer_all(
            table,
            out / f"{name}.jsonl",
            model="ui-s",
            strategy=name,
            prompt="<|{lang}|>{english}<|to|>",
            max_tokens=64,
            reference="translation",
            concurrency=1,
        )
        pool, details = card.details["pools"][0], card.details
        gain = f"{pool['chosen']:+.1f} [{pool['chosen_low']:+.1f}, {pool['chosen_high']:+.1f}]"
        print(
            (
                f"| `{name}` | {gain} | {details['spent']['flops']:.3g} | "
                f"{details['stopped_by'].get('agreement', 0)} |"
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
