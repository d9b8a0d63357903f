"""Near-duplicate removal end to end (Parquet in, Parquet out): CPU seconds of Pomona, which
confirms every pair, and of its peers.

Each tool runs in a process and a virtual environment of its own, one thread, rounds interleaved,
after one run on a few documents. All take words in lower case in runs of five and 128 hashes in 16
bands of 8; rensa (both of its pipelines), datasketch, text-dedup and datatrove do not compare
shingle sets. A fifth of the documents are copies with up to 25 of 170 words replaced. text-dedup
splits at what is no letter, and the made-up words hold letters only, so that the shingles are the
same. Its sha1 is replaced by its faster xxh3.
    python benchmarks/dedup.py --documents 100000 --rounds 3 --linear --memory
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _machine import compile_package, machine

from pomona.files import write_json

ROOT = Path(__file__).resolve().parents[1]
WORDS, BLOCK = 170, 20_000

POMONA = """
import sys
from pomona.data.duplicates import dedup
dedup(sys.argv[1], sys.argv[2], n_bands=16, rows_per_band=8, shingle="word", threshold=0.8)
"""

_TABLES = """
import sys
import pyarrow as pa
import pyarrow.parquet as pq
def shingles(text):
    words = text.lower().split()
    return list(map(" ".join, zip(words, words[1:], words[2:], words[3:], words[4:])))
table = pq.read_table(sys.argv[1], use_threads=False)
texts = table["text"].to_pylist()
def write(keep):
    pq.write_table(table.filter(pa.array(keep)), sys.argv[2], compression="zstd")
"""

RENSA = (
    _TABLES
    + """
import rensa
matrix = rensa.RMinHash.digest_matrix_from_token_sets{rho}([shingles(text) for text in texts], 128, 42)
flags = rensa.RMinHashLSH(0.8, 128, 16).query_duplicate_flags_matrix_one_shot(matrix)
write([not flag for flag in flags])
"""
)

DATASKETCH = (
    _TABLES
    + """
from datasketch import MinHash, MinHashLSH
lsh, keep = MinHashLSH(num_perm=128, params=(16, 8)), []
for row, sketch in enumerate(MinHash.generator(([s.encode() for s in shingles(text)] for text in texts), num_perm=128)):
    keep.append(not lsh.query(sketch))
    if keep[-1]:
        lsh.insert(row, sketch, check_duplication=False)
write(keep)
"""
)

TEXT_DEDUP = """
import sys
from pathlib import Path
import pyarrow.parquet as pq
folder = Path(sys.argv[2] + ".folder")
options = ["--path", "parquet", "--data_files", sys.argv[1], "--split", "train", "--cache_dir", str(folder / "cache"), "--num_proc", "1",
           "--output", str(folder / "out"), "--column", "text", "--ngram", "5", "--min_length", "0", "--num_perm", "128", "--b", "16",
           "--r", "8", "--hash_func", "xxh3", "--batch_size", "10000"]
sys.argv = ["minhash", *options]
out = str(folder).removesuffix(".folder")
from text_dedup.minhash import main
try:
    main(standalone_mode=False)
finally:
    from datasets import load_from_disk
    load_from_disk(str(folder / "out")).to_parquet(out)
"""

DATATROVE = """
import sys
from pathlib import Path
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import minhash as steps
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import TextNormConfig
class Words:
    def word_tokenize(self, text):
        return text.split()
steps.load_word_tokenizer = lambda language: Words()
source, folder = Path(sys.argv[1]), Path(sys.argv[2] + ".folder")
form = TextNormConfig(remove_punctuation=False, norm_unicode_diacritics=False, norm_numbers=False)
config = steps.MinhashConfig(n_grams=5, num_buckets=16, hashes_per_bucket=8, norm_config=form, hash_config=HashConfig(precision=64))
def at(name):
    return str(folder / name)
def run(tasks, *pipeline):
    LocalPipelineExecutor(pipeline=list(pipeline), tasks=tasks, workers=1, logging_dir=at(f"log{len(list(folder.glob('log*')))}")).run()
reader = ParquetReader(str(source.parent), glob_pattern=source.name, doc_progress=False)
folder.mkdir()
run(1, reader, steps.MinhashDedupSignature(output_folder=at("sigs"), config=config))
run(16, steps.MinhashDedupBuckets(input_folder=at("sigs"), output_folder=at("buckets"), config=config))
run(1, steps.MinhashDedupCluster(input_folder=at("buckets"), output_folder=at("remove"), config=config))
run(1, reader, steps.MinhashDedupFilter(input_folder=at("remove")), ParquetWriter(at("out"), compression="zstd"))
next(Path(at("out")).glob("*.parquet")).rename(sys.argv[2])
"""


@dataclass(frozen=True)
class Tool:
    """What to install, what to run, and the package whose version counts."""

    script: str
    packages: tuple[str, ...]
    name: str


TOOLS = {
    "pomona": Tool(POMONA, (str(ROOT),), "pomona"),
    "rensa": Tool(RENSA.replace("{rho}", ""), ("rensa", "pyarrow"), "rensa"),
    "rensa-rho": Tool(RENSA.replace("{rho}", "_rho"), ("rensa", "pyarrow"), "rensa"),
    "datasketch": Tool(DATASKETCH, ("datasketch", "pyarrow"), "datasketch"),
    "text-dedup": Tool(TEXT_DEDUP, ("text-dedup",), "text-dedup"),
    "datatrove": Tool(DATATROVE, ("datatrove[io,processing]",), "datatrove"),
}


def environment(tool: Tool, folder: Path) -> Path:
    """The interpreter of the tool's virtual environment, made once."""
    python = folder / tool.name / "bin" / "python"
    if not (folder / tool.name / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder / tool.name)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *tool.packages], check=True)
        (folder / tool.name / "ready").touch()
    elif tool.name == "pomona":
        subprocess.run(
            [
                str(python),
                "-m",
                "pip",
                "install",
                "-q",
                "--no-deps",
                "--force-reinstall",
                str(ROOT),
            ],
            check=True,
        )
    return python


def version(tool: Tool, python: Path) -> str:
    code = f"import importlib.metadata as m; print(m.version({tool.name!r}))"
    return subprocess.run(
        [str(python), "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()


def documents(path: Path, count: int, seed: int = 0) -> Path:
    """`count` documents of WORDS words from a vocabulary of 30,000, every fifth a copy of an
    earlier one with up to 25 words replaced.
    """
    draw = np.random.default_rng(seed)
    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
    vocabulary = np.array(
        sorted({"".join(draw.choice(letters, draw.integers(2, 10))) for _ in range(32_000)})
    )
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, count, BLOCK):
            words = draw.integers(0, len(vocabulary), (min(BLOCK, count - start), WORDS))
            for row in range(4, len(words), 5):
                words[row] = words[draw.integers(0, row)]
                words[row, draw.choice(WORDS, draw.integers(0, 26), replace=False)] = draw.integers(
                    0, len(vocabulary)
                )
            texts = [" ".join(line) for line in vocabulary[words]]
            writer.write_table(
                pa.table(
                    {"id": [f"d{start + at}" for at in range(len(words))], "text": texts},
                    schema=schema,
                )
            )
    return path


def measure(tool: Tool, python: Path, source: Path) -> dict[str, float]:
    """CPU seconds and peak memory of one run with all its children, and the documents it kept."""
    with tempfile.TemporaryDirectory(prefix="dedup-") as folder:
        out, log = Path(folder) / "out.parquet", Path(folder) / "log"
        threads = dict.fromkeys(
            ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
            "1",
        )
        settings = {
            **os.environ,
            **threads,
            "HF_HOME": f"{folder}/hf",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        with log.open("wb") as stream:
            child = subprocess.Popen(
                [str(python), "-c", tool.script, str(source), str(out)],
                env=settings,
                stdout=stream,
                stderr=stream,
            )
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode or not out.exists():
            raise SystemExit(f"{tool.name} failed:\n{log.read_text()[-3000:]}")
        kept = pq.ParquetFile(out).metadata.num_rows
        return {
            "cpu_seconds": usage.ru_utime + usage.ru_stime,
            "peak_mib": usage.ru_maxrss / 1024,
            "kept": kept,
        }


def compare(
    names: list[str], pythons: dict[str, Path], source: Path, count: int, rounds: int
) -> list[dict[str, object]]:
    """One row for each tool: the median over interleaved rounds."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            runs[name].append(measure(TOOLS[name], pythons[name], source))
            print(name, count, runs[name][-1], flush=True)
    rows = []
    for name in names:
        seconds = statistics.median(run["cpu_seconds"] for run in runs[name])
        row = {
            "tool": name,
            "documents": count,
            "cpu_seconds": round(seconds, 2),
            "documents_per_cpu_second": round(count / seconds),
        }
        rows.append(
            {
                **row,
                "peak_mib": round(max(run["peak_mib"] for run in runs[name])),
                "kept": runs[name][0]["kept"],
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(TOOLS))
    parser.add_argument(
        "--linear", action="store_true", help="Pomona also with ten times the documents"
    )
    parser.add_argument(
        "--memory", action="store_true", help="peak memory of Pomona at 1,000,000 documents"
    )
    parser.add_argument(
        "--environments", type=Path, default=Path(tempfile.gettempdir()) / "pomona-dedup-peers"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/dedup.json"))
    arguments = parser.parse_args()
    compile_package()
    shutil.rmtree(arguments.environments / "data", ignore_errors=True)
    (arguments.environments / "data").mkdir(parents=True)
    pythons = {name: environment(TOOLS[name], arguments.environments) for name in arguments.tools}
    versions = {name: version(TOOLS[name], pythons[name]) for name in arguments.tools}
    few = documents(arguments.environments / "data" / "few.parquet", 200)
    for name in arguments.tools:
        measure(TOOLS[name], pythons[name], few)
    sizes = [(arguments.documents, arguments.tools, arguments.rounds)]
    sizes += [(10 * arguments.documents, ["pomona"], 1)] if arguments.linear else []
    sizes += (
        [(1_000_000, ["pomona"], 1)]
        if arguments.memory and not (arguments.linear and arguments.documents == 100_000)
        else []
    )
    rows = []
    for count, names, rounds in sizes:
        source = documents(arguments.environments / "data" / f"{count}.parquet", count)
        rows += compare(names, pythons, source, count, rounds)
        source.unlink()
    about = {
        "unit": "CPU seconds of the process, user and system",
        "words": WORDS,
        "rounds": arguments.rounds,
        "machine": machine(),
    }
    peers = [
        row for row in rows if row["tool"] != "pomona" and row["documents"] == arguments.documents
    ]
    if peers and "pomona" in arguments.tools:
        about["times_the_best_peer"] = round(
            min(row["cpu_seconds"] for row in peers)
            / rows[arguments.tools.index("pomona")]["cpu_seconds"],
            2,
        )
    if arguments.linear and "pomona" in arguments.tools:
        many = next(row for row in rows if row["documents"] == 10 * arguments.documents)
        about["ten_times_the_documents_cost"] = round(
            many["cpu_seconds"] / rows[arguments.tools.index("pomona")]["cpu_seconds"], 2
        )
    write_json(arguments.out, {**about, "versions": versions, "rows": rows})
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
