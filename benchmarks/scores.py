"""Tokens per CPU second of `score` against the model's own forward pass in the same batches, and
against lm-eval's loglikelihood.

One thread, rounds interleaved. lm-eval runs in a virtual environment of its own, made at the first
use (`--no-peer` leaves it out). The same pairs of `ui`, the same checkpoint in float32; lm-eval is
called through its own `HFLM.loglikelihood`.
    python benchmarks/scores.py --model ui-s ui-l --pairs 1500 --rounds 3
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from _machine import machine

import pomona
from pomona.data.scores import score
from pomona.files import write_json
from pomona.models import load, locate, scoring_flops
from pomona.models.torch import Probe, TorchModel, Unit

UI = Path(pomona.__file__).parent / "assets" / "ui" / "ui.parquet"
PROMPT = "<|{lang}|>{english}<|to|>"
PEER = (
    ["torch==2.13.0"],
    ["lm-eval[hf]==0.4.13", "transformers>=5.20,<6"],
)  # torch first, or its build for other devices comes along
LM_EVAL = """
import json, sys, time, logging, warnings
warnings.filterwarnings("ignore"); logging.disable(logging.WARNING)
import torch; torch.set_num_threads(1)
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
import transformers
for line in sys.stdin:
    order = json.loads(line)
    if "folder" in order:
        folder = order["folder"]
        network = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        models = {n: HFLM(pretrained=network, tokenizer=tokenizer, batch_size=n, device="cpu", max_length=512) for n in order["batches"]}
        requests = [Instance("loglikelihood", {}, tuple(pair), i) for i, pair in enumerate(order["pairs"])]
    start = time.process_time()
    found = models[order["batch"]].loglikelihood(requests, disable_tqdm=True)
    print(json.dumps({"seconds": time.process_time() - start, "logprobs": [value for value, _ in found]}), flush=True)
"""


def pairs_of(count: int, seed: int) -> pa.Table:
    """Distinct pairs with a prompt, drawn at random."""
    table = pq.read_table(UI, columns=["lang", "english", "translation"])
    rows = random.Random(seed).sample(range(len(table)), count)
    return table.take(rows)


def cpu(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def batches_of(units: list[Unit], model: TorchModel) -> list[list[Unit]]:
    """The batches that the probe makes of units."""
    units, batches = sorted(units, key=lambda unit: -len(unit.ids)), []
    while units:
        size = model.budget.scoring(len(units[0].ids), 1)
        batches.append(units[:size])
        units = units[size:]
    return batches


def forward(model: TorchModel, batches: list[list[Unit]]) -> None:
    """The network as transformers runs it: logits for every token of every batch."""
    for batch in batches:
        ids, mask = np.zeros((2, len(batch), len(batch[0].ids)), np.int64)
        for row, unit in enumerate(batch):
            ids[row, : len(unit.ids)], mask[row, : len(unit.ids)] = unit.ids, 1
        with torch.inference_mode():
            model.network(
                input_ids=torch.from_numpy(ids),
                attention_mask=torch.from_numpy(mask),
                use_cache=False,
            )


def environment(home: Path) -> Path:
    """The interpreter of lm-eval's virtual environment, made once."""
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True)
        for packages in PEER:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (home / "ready").touch()
    return python


class Peer:
    """lm-eval in a child process that is asked for one round at a time."""

    def __init__(
        self, home: Path, uri: str, batches: list[int], pairs: list[tuple[str, str]]
    ) -> None:
        python = environment(home)
        settings = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self.child = subprocess.Popen(
            [python, "-c", LM_EVAL],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=settings,
            cwd=tempfile.gettempdir(),
        )
        self.first = self._ask(
            {"folder": str(locate(uri)), "batches": batches, "batch": batches[-1], "pairs": pairs}
        )
        command = (
            "from importlib.metadata import version as v; print(v('lm-eval'), v('torch'), "
            "v('transformers'))"
        )
        said = subprocess.run(
            [python, "-c", command], check=True, capture_output=True, text=True
        ).stdout.split()
        self.versions = dict(zip(("lm-eval", "torch", "transformers"), said, strict=True))

    def round(self, batch: int) -> float:
        return self._ask({"batch": batch})["seconds"]

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        print(json.dumps(order), file=self.child.stdin, flush=True)
        return json.loads(next(line for line in self.child.stdout if line.startswith("{")))

    def close(self) -> None:
        assert self.child.stdin is not None
        self.child.stdin.close()
        self.child.wait()


def texts(model: TorchModel, length: int, tokens: int) -> list[Unit]:
    """Full contexts of real text: every token is scored, so the head has as much to do in both."""
    stream: list[int] = []
    for row in pairs_of(tokens // 8, seed=1).to_pylist():
        stream += model.codec.completions([row["english"]], end=True)[0]
    cut = [
        np.array(stream[at : at + length], np.int32)
        for at in range(0, min(len(stream), tokens) - length + 1, length)
    ]
    return [Unit(ids, 1) for ids in cut]


def against_forward(model: TorchModel, length: int, tokens: int, rounds: int) -> dict[str, Any]:
    """Perplexity and EL2N together, in the batches of the plain forward pass."""
    probe, units = Probe(model), texts(model, length, tokens)
    batches, count = batches_of(units, model), sum(len(unit.ids) for unit in units)
    probe.token_scores(units[:1]), forward(model, batches[:1])
    times: dict[str, list[float]] = {"forward": [], "scores": []}
    for turn in range(rounds):
        sides = [
            ("forward", lambda: forward(model, batches)),
            ("scores", lambda: probe.token_scores(units)),
        ]
        for name, run in sides if turn % 2 == 0 else sides[::-1]:
            times[name].append(cpu(run))
    medians = {name: statistics.median(values) for name, values in times.items()}
    speeds = {
        f"{name}_tokens_per_second": round(count / seconds) for name, seconds in medians.items()
    }
    ratios = [round(a / b, 3) for a, b in zip(times["forward"], times["scores"], strict=True)]
    return {
        "length": length,
        "tokens": count,
        **speeds,
        "ratio": round(medians["forward"] / medians["scores"], 3),
        "ratios": ratios,
    }


def against_lm_eval(
    uri: str, home: Path | None, count: int, batches: list[int], rounds: int
) -> dict[str, Any]:
    """The whole of `score` from a Parquet file to a Parquet file, loading included, and lm-eval's
    loglikelihood without its loading.

    `ratio` is that to lm-eval at its fastest batch size. `ratio_of_products` is what the matrix
    products alone allow at equal precision: lm-eval computes logits for every token, `score` for
    the completion's.
    """
    table = pairs_of(count, seed=0)
    pairs = [(PROMPT.format_map(row), row["translation"]) for row in table.to_pylist()]
    with tempfile.TemporaryDirectory(prefix="pomona-scores-") as folder:
        source, out = Path(folder) / "in.parquet", Path(folder) / "out.parquet"
        pq.write_table(table, source)

        def ours() -> object:
            return score(
                source,
                out,
                models=[uri],
                scores=["perplexity", "el2n"],
                prompt=PROMPT,
                completion="translation",
            )

        model = load(uri, device="cpu", dtype="float32")
        assert isinstance(model, TorchModel)
        runs: dict[str, Callable[[], float]] = {
            "score": lambda: cpu(ours),
            "model.score": lambda: cpu(lambda: model.score(*zip(*pairs, strict=True))),
        }
        peer = Peer(home, uri, batches, pairs) if home else None
        if peer is not None:
            runs |= {f"lm-eval_{batch}": functools.partial(peer.round, batch) for batch in batches}
        ours()
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(rounds):
            for name in list(runs) if turn % 2 == 0 else list(runs)[::-1]:
                seconds[name].append(runs[name]())
    result: dict[str, Any] = {"pairs": count, **products(model, pairs)}
    result |= {
        f"{name}_pairs_per_second": round(count / statistics.median(values), 1)
        for name, values in seconds.items()
    }
    if peer is not None:
        best = min(batches, key=lambda batch: statistics.median(seconds[f"lm-eval_{batch}"]))
        ratios = [
            round(b / a, 2)
            for a, b in zip(seconds["score"], seconds[f"lm-eval_{best}"], strict=True)
        ]
        mine = np.array([float(row.sum()) for row in model.score(*zip(*pairs, strict=True))])
        same = float(np.mean(np.abs(mine - np.array(peer.first["logprobs"])) < 1e-2))
        result |= {
            "best_batch": best,
            "ratio": round(statistics.median(ratios), 2),
            "ratios": ratios,
            "same_to_0.01": same,
        }
        result["peer"] = peer.versions
        peer.close()
    return result


def products(model: TorchModel, pairs: list[tuple[str, str]]) -> dict[str, float]:
    """Tokens, and floating-point operations with logits for every token over those with logits for
    the completion's.
    """
    first = np.array([len(ids) for ids in model.codec.prompts([prompt for prompt, _ in pairs])])
    scored = np.array(
        [len(ids) for ids in model.codec.completions([answer for _, answer in pairs], end=True)]
    )
    everywhere = scoring_flops(model.shape, 1, first + scored - 1).sum()
    ratio = round(float(everywhere / scoring_flops(model.shape, first, scored).sum()), 2)
    return {
        "prompt_tokens": int(first.sum()),
        "completion_tokens": int(scored.sum()),
        "ratio_of_products": ratio,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", nargs="+", default=["ui-s", "ui-l"])
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 256, 512])
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--pairs", type=int, default=1500)
    parser.add_argument(
        "--peer-batches",
        type=int,
        nargs="+",
        default=[1, 16, 64],
        help="1 is lm-eval's own default",
    )
    parser.add_argument(
        "--environments", type=Path, default=Path(tempfile.gettempdir()) / "pomona-scores-peers"
    )
    parser.add_argument("--no-peer", action="store_true", help="leave lm-eval out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scores.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    home = None if arguments.no_peer else arguments.environments / "lm-eval"
    rows: dict[str, Any] = {}
    for uri in arguments.model:
        model = load(uri, device="cpu", dtype="float32")
        assert isinstance(model, TorchModel)
        lengths = [
            against_forward(model, length, arguments.tokens, arguments.rounds)
            for length in arguments.lengths
        ]
        rows[uri] = {
            "forward": lengths,
            "lm-eval": against_lm_eval(
                uri, home, arguments.pairs, arguments.peer_batches, arguments.rounds
            ),
        }
        print(json.dumps({uri: rows[uri]}, indent=1), file=sys.stderr, flush=True)
    versions = {name: version(name) for name in ("numba", "numpy", "torch", "transformers")}
    about = {
        "unit": "CPU seconds, one thread",
        "rounds": arguments.rounds,
        "machine": machine(),
        "versions": versions,
    }
    write_json(arguments.out, {**about, "models": rows})


if __name__ == "__main__":
    main()
