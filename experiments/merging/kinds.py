"""The `ui` table with a column `kind`: "short" for labels of at most three words without
placeholders, "long" for the rest.

python experiments/merging/kinds.py [build/ui-kinds.parquet]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pyarrow as pa

from pomona import records

PLACEHOLDER = re.compile(r"%\(?\w|\{\w*\}|<\w+")


def kind(english: str) -> str:
    """Labels and menu entries are short; sentences, and whatever has a placeholder, are long."""
    return "short" if len(english.split()) <= 3 and not PLACEHOLDER.search(english) else "long"


def main(out: Path) -> None:
    """Write the table."""
    table = records.read("ui").to_table()
    kinds = pa.array([kind(text) for text in table["english"].to_pylist()])
    out.parent.mkdir(parents=True, exist_ok=True)
    records.write(table.append_column("kind", kinds), out)
    print(
        f"{out}: {table.num_rows:,} rows, "
        f"{kinds.to_pylist().count('short') / table.num_rows:.0%} short"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/ui-kinds.parquet"))
