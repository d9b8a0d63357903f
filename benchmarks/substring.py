"""MB of text a CPU second of striking repeated substrings, file to file, and peak memory, by unit,
memory and size; one process each.

Texts are documents of about 170 words of a 50,000-word vocabulary by Zipf's law; one in ten holds
one of a thousand shared passages of 60 to 300 words. All that was planted must be struck.
    python benchmarks/substring.py --megabytes 10 100 --out benchmarks/results/substring.json
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _machine import machine

from pomona.data.duplicates.substring import Unit, dedup_substring
from pomona.files import write_json


def write_texts(path: Path, megabytes: float, seed: int) -> int:
    """Write about `megabytes` of documents. Returns the bytes of all planted passages that stand
    more than once.
    """
    draw = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
    vocabulary = np.array(
        ["".join(draw.choice(letters, size)) for size in draw.integers(2, 10, 50_000)]
    )

    def text(count: int) -> str:
        return " ".join(vocabulary[draw.zipf(1.3, count) % len(vocabulary)])

    passages = [text(count) for count in draw.integers(60, 300, 1000)]
    uses = np.zeros(len(passages), int)
    documents: list[str] = []
    size = 0
    while size < megabytes * 1e6:
        document = text(int(draw.integers(40, 300)))
        if draw.random() < 0.1:
            chosen = int(draw.integers(len(passages)))
            uses[chosen] += 1
            document = f"{document} | {passages[chosen]} | {text(20)}"
        documents.append(document)
        size += len(document)
    pq.write_table(pa.table({"text": documents}), path)
    return sum(
        len(passage) * count
        for passage, count in zip(passages, uses.tolist(), strict=True)
        if count > 1
    )


def peak() -> int:
    """MiB this process held at most. Linux counts the parent's in `ru_maxrss`."""
    return round(
        int(re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024
    )


def run(source: Path, out: Path, unit: Unit, memory: str) -> dict[str, float]:
    """One measured call, after a small one that compiles."""
    dedup_substring(
        pa.table({"text": ["to compile once, to compile once"]}), out, unit=unit, min_length=3
    )
    start = time.process_time()
    card = dedup_substring(
        source, out, unit=unit, min_length=200 if unit == "byte" else 50, memory=memory
    )
    seconds = time.process_time() - start
    megabytes = card.details["bytes"] / 1e6
    return {
        "megabytes": round(megabytes, 1),
        "cpu_seconds": round(seconds, 2),
        "megabytes_a_cpu_second": round(megabytes / seconds, 2),
        "peak_mebibytes": peak(),
        "passes": card.details["passes"],
        "struck_bytes": card.details["struck_bytes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[10, 100])
    parser.add_argument("--units", nargs="+", default=["word", "byte", "token"])
    parser.add_argument("--memory", nargs="+", default=["1GiB", "512MiB"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/substring.json"))
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        source, out, unit, memory = arguments.run
        print(json.dumps(run(Path(source), Path(out), cast("Unit", unit), memory)))
        return
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for megabytes in arguments.megabytes:
            source = Path(folder) / "in.parquet"
            planted = write_texts(source, megabytes, seed=0)
            for unit in arguments.units:
                for memory in arguments.memory:
                    call = [
                        sys.executable,
                        __file__,
                        "--run",
                        str(source),
                        str(Path(folder) / "out.parquet"),
                        unit,
                        memory,
                    ]
                    row = json.loads(
                        subprocess.run(call, check=True, capture_output=True, text=True).stdout
                    )
                    if row["struck_bytes"] < planted:
                        raise SystemExit(
                            f"{planted - row['struck_bytes']} planted bytes were missed: {row}"
                        )
                    rows.append({"unit": unit, "memory": memory, **row, "planted_bytes": planted})
                    print(rows[-1])
    versions = {name: version(name) for name in ("numba", "numpy", "pyarrow", "tokenizers")}
    write_json(
        arguments.out,
        {
            "unit": "Parquet to Parquet, one process a row",
            "machine": machine(),
            "versions": versions,
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
