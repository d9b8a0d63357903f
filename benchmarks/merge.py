"""Wall and CPU seconds and peak memory of merging, beside mergekit and beside reading the inputs
and writing the result with no sum at all.

Three checkpoints of 271 million bf16 parameters in three shards (a Llama of 16 layers; a seeded
base and two fine-tunes near it), warm in the page cache. Programs take turns, each run is a process
of its own, and the disk is brought up to date before each. `start` is the time of the same command
over checkpoints of a few thousand parameters. Pomona is run as by default (report, SHA-256 of
inputs, fsync), with the hashes of the inputs remembered from an earlier merge and without; mergekit
as by default, which neither hashes nor syncs.
    python benchmarks/merge.py --environment ENV --out benchmarks/results/merge.json
ENV is a virtual environment with mergekit 0.1.5.
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
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from _machine import compile_package, machine

from pomona.files import write_json

ASSETS = Path(__file__).parents[1] / "src/pomona/assets/ui-tokenizer"
METHODS = ("linear", "slerp", "ties", "dare_ties")
BLOCK = 1 << 20
# A small process, because the peak memory of a child counts that of its parent at the start.
LAUNCH = """
import resource, subprocess, sys, time
begin = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
wall, used = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
cpu, rss = used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6
print('{"wall": %r, "cpu": %r, "rss": %r}' % (wall, cpu, rss))
sys.exit(code)
"""
Sizes = dict[str, int]
FULL: Sizes = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 16,
    "vocab_size": 32000,
}
TINY: Sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "vocab_size": 64}


def shapes(sizes: Sizes) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of a Llama's tensors."""
    hidden, inner = sizes["hidden_size"], sizes["intermediate_size"]
    yield "model.embed_tokens.weight", (sizes["vocab_size"], hidden)
    for layer in range(sizes["num_hidden_layers"]):
        for name, shape in (
            *((f"self_attn.{part}_proj", (hidden, hidden)) for part in "qkvo"),
            *((f"mlp.{part}_proj", (inner, hidden)) for part in ("gate", "up")),
            ("mlp.down_proj", (hidden, inner)),
            ("input_layernorm", (hidden,)),
            ("post_attention_layernorm", (hidden,)),
        ):
            yield f"model.layers.{layer}.{name}.weight", shape
    yield "model.norm.weight", (sizes["hidden_size"],)
    yield "lm_head.weight", (sizes["vocab_size"], hidden)


def values(number: int, shape: tuple[int, ...], model: int) -> np.ndarray:
    """bf16 weights as uint16: a base of deviation 0.02, and fine-tunes that move each weight by
    a heavy-tailed step.
    """
    size = int(np.prod(shape))
    found = np.random.default_rng([number, 0]).standard_normal(size, np.float32) * np.float32(0.02)
    if model:
        draw = np.random.default_rng([number, model])
        found += draw.standard_normal(size, np.float32) ** 3 * np.float32(0.0004)
    bits = found.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def build(folder: Path, sizes: Sizes, model: int, shards: int) -> None:
    """Write a checkpoint folder."""
    folder.mkdir(parents=True)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_attention_heads": 8,
        "torch_dtype": "bfloat16",
        "rms_norm_eps": 1e-5,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        **sizes,
    }
    write_json(folder / "config.json", config)
    for file in ASSETS.iterdir():
        shutil.copyfile(file, folder / file.name)
    tensors = list(shapes(sizes))
    weight_map = {}
    per = -(-len(tensors) // shards)
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = list(enumerate(tensors))[shard * per : (shard + 1) * per]
        header, offset = {}, 0
        for _, (tensor, shape) in part:
            end = offset + 2 * int(np.prod(shape))
            header[tensor] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
            weight_map[tensor], offset = name, end
        encoded = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
        encoded += b" " * (-len(encoded) % 8)
        with (folder / name).open("wb") as stream:
            stream.write(len(encoded).to_bytes(8, "little") + encoded)
            for number, (_, shape) in part:
                stream.write(values(number, shape, model).tobytes())
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def recipe(folder: Path, models: Path, method: str) -> Path:
    """Write the recipe of a method: two models, and their base where the method has task
    vectors.
    """
    base, one, other = (str(models / str(number)) for number in range(3))
    found: dict[str, Any] = {"merge_method": method, "dtype": "bfloat16"}
    if method == "linear":
        found["models"] = [
            {"model": one, "parameters": {"weight": 0.6}},
            {"model": other, "parameters": {"weight": 0.4}},
        ]
    elif method == "slerp":
        found |= {
            "base_model": one,
            "models": [{"model": one}, {"model": other}],
            "parameters": {"t": 0.4},
        }
    else:
        found |= {
            "base_model": base,
            "models": [
                {"model": m, "parameters": {"weight": 0.5, "density": 0.5}} for m in (one, other)
            ],
        }
    path = folder / f"{method}-{models.name}.yaml"
    path.write_text(yaml.safe_dump(found))
    return path


def measured(command: list[str], out: Path, environment: dict[str, str]) -> dict[str, float]:
    """Run a command that writes `out`: wall and CPU seconds and peak memory in MB. What it wrote
    is removed.
    """
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    call = [sys.executable, "-I", "-S", "-c", LAUNCH, *command]
    done = subprocess.run(
        call, capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    if done.returncode or not list(out.glob("*.safetensors")):
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    shutil.rmtree(out)
    return json.loads(done.stdout.splitlines()[-1])


def floor(inputs: list[Path], out: Path, *, sync: bool) -> dict[str, float]:
    """Read all input files and write one output of the first model's size, block by block, in
    one thread.
    """
    os.sync()
    buffer = np.empty(BLOCK, np.uint8)
    size = sum(file.stat().st_size for file in inputs if file.parent == inputs[0].parent)
    begin, cpu = time.perf_counter(), time.process_time()
    for file in inputs:
        with file.open("rb", buffering=0) as stream:
            while stream.readinto(buffer):
                pass
    with out.open("wb", buffering=0) as stream:
        for start in range(0, size, BLOCK):
            stream.write(buffer[: min(BLOCK, size - start)])
        if sync:
            os.fsync(stream.fileno())
    found = {"wall": time.perf_counter() - begin, "cpu": time.process_time() - cpu}
    out.unlink()
    return found


class Bench:
    """Runs in a temporary folder, in turns; `rows` are what was measured."""

    def __init__(self, folder: Path, environment: Path, threads: int | None) -> None:
        self.folder, self.out = folder, folder / "out"
        self.mergekit = environment / "bin/mergekit-yaml"
        self.pomona = Path(sys.executable).with_name("pomona")
        self.threads = ["--threads", str(threads)] if threads else []
        self.environment = {"HF_HUB_OFFLINE": "1", "POMONA_CACHE": str(folder / "cache")}

    def run(self, program: str, method: str, models: Path) -> dict[str, float]:
        """One run. programs: pomona, pomona-unhashed (hashes not remembered), pomona-plain (no
        report), mergekit, floor, floor-sync.
        """
        if program.startswith("floor"):
            read = [
                models / str(number)
                for number in ((1, 2) if method in ("linear", "slerp") else (0, 1, 2))
            ]
            files = [file for folder in read for file in sorted(folder.glob("*.safetensors"))]
            return floor(files, self.folder / "floor", sync=program.endswith("sync"))
        path = str(recipe(self.folder, models, method))
        if program == "mergekit":
            return measured(
                [str(self.mergekit), path, str(self.out), "--quiet"], self.out, self.environment
            )
        if program == "pomona-unhashed":
            (self.folder / "cache/hashes.json").unlink(missing_ok=True)
        more = ["--no-report"] if program == "pomona-plain" else []
        return measured(
            [str(self.pomona), "merge", path, str(self.out), *self.threads, *more],
            self.out,
            self.environment,
        )


def summary(rows: list[dict[str, float]]) -> dict[str, Any]:
    """Median of the wall and CPU seconds with the least, and the highest memory."""
    found: dict[str, Any] = {
        "wall": statistics.median(row["wall"] for row in rows),
        "least": min(row["wall"] for row in rows),
    }
    found["cpu"] = statistics.median(row["cpu"] for row in rows)
    if "rss" in rows[0]:
        found["rss_mb"] = max(row["rss"] for row in rows)
    return {name: round(value, 3) for name, value in found.items()}


def compare(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Ratios of medians: how many times faster than mergekit, the same without both starts, and
    how many times the floor.
    """
    ours, theirs = found["pomona"], found["mergekit"]
    net = ours["wall"] - found["pomona start"]["wall"]
    ratios = {
        "faster": theirs["wall"] / ours["wall"],
        "faster unhashed": theirs["wall"] / found["pomona-unhashed"]["wall"],
        "faster without start": (theirs["wall"] - found["mergekit start"]["wall"]) / net,
        "cpu": theirs["cpu"] / ours["cpu"],
        "of the floor": net / found["floor"]["wall"],
        "of the floor with fsync": net / found["floor-sync"]["wall"],
        "cpu of the floor": (ours["cpu"] - found["pomona start"]["cpu"]) / found["floor"]["cpu"],
    }
    return {name: round(value, 2) for name, value in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--mergekit-repeats", type=int, default=2)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--folder", type=Path, help="where checkpoints are made, and found again")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/merge.json"))
    arguments = parser.parse_args()
    compile_package()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        double = {**FULL, "num_hidden_layers": 32, "vocab_size": 64000}
        for name, sizes, shards in (("full", FULL, 3), ("double", double, 6), ("tiny", TINY, 1)):
            for model in range(3):
                if not (folder / name / str(model)).exists():
                    build(folder / name / str(model), sizes, model, shards)
        bench = Bench(folder, arguments.environment, arguments.threads)
        results = {}
        for method in arguments.methods:
            results[method] = measure(bench, method, arguments.repeats, arguments.mergekit_repeats)
            print(method, json.dumps(results[method], indent=1))
    process = subprocess.run(
        [
            bench.mergekit.with_name("python"),
            "-c",
            "import mergekit, torch; print(torch.__version__)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    versions = {
        "mergekit": "0.1.5",
        "torch of mergekit": process.stdout.strip(),
        "numba": version("numba"),
        "numpy": version("numpy"),
    }
    unit = (
        "seconds, medians of whole processes; MB of peak memory; parameters 271M, two models "
        "(slerp, linear) or two and their base"
    )
    write_json(
        arguments.out,
        {
            "unit": unit,
            "machine": machine(),
            "cores": os.cpu_count(),
            "versions": versions,
            "methods": results,
        },
    )


def measure(bench: Bench, method: str, repeats: int, mergekit_repeats: int) -> dict[str, Any]:
    """All programs in turns over the full size, then the starts, then twice the size."""
    full, tiny, double = (bench.folder / name for name in ("full", "tiny", "double"))
    programs = ("floor", "floor-sync", "pomona", "pomona-plain", "pomona-unhashed", "mergekit")
    rows: dict[str, list[dict[str, float]]] = {program: [] for program in programs}
    bench.run("floor", method, full)  # warm the cache
    bench.run("pomona", method, full)
    for repeat in range(repeats):
        for program in programs:
            if program != "mergekit" or repeat < mergekit_repeats:
                rows[program].append(bench.run(program, method, full))
    for program, times in (("pomona", repeats), ("mergekit", mergekit_repeats)):
        rows[f"{program} start"] = [bench.run(program, method, tiny) for _ in range(times)]
    rows["pomona twice the size"] = [bench.run("pomona", method, double) for _ in range(2)]
    found = {program: summary(runs) for program, runs in rows.items()}
    return {"ratios": compare(found), **found}


if __name__ == "__main__":
    main()
