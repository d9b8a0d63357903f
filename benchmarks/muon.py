"""What a step of Muon costs in float32 training: torch's, which makes matrices orthogonal in
bfloat16 whatever they are, and ours, which does it in float32. CPU milliseconds of a step of one
matrix, in turn, the least of so many; and how far the new matrices are apart.

    python benchmarks/muon.py
"""

from __future__ import annotations

import argparse
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from _machine import machine

from pomona.files import write_json
from pomona.train.muon import Muon32

RESULTS = Path(__file__).parent / "results" / "muon.json"
SHAPES = ((128, 128), (512, 128), (192, 768), (576, 1536), (2048, 128))
KINDS = {"torch": torch.optim.Muon, "pomona": Muon32}


def measured(shape: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Of one shape, by the same gradients."""
    torch.manual_seed(0)
    start = torch.randn(shape)
    matrices = {name: torch.nn.Parameter(start.clone()) for name in KINDS}
    optimizers = {
        name: kind([matrices[name]], lr=0.01, adjust_lr_fn="match_rms_adamw")
        for name, kind in KINDS.items()
    }
    took: dict[str, list[float]] = {name: [] for name in KINDS}
    for _ in range(rounds):
        gradient = torch.randn(shape)
        for name, optimizer in optimizers.items():
            matrices[name].grad = gradient.clone()
            before = time.process_time()
            optimizer.step()
            took[name].append(time.process_time() - before)
    moved = {name: one.detach() - start for name, one in matrices.items()}
    apart = (moved["torch"] - moved["pomona"]).norm() / moved["pomona"].norm()
    least = {name: round(min(some) * 1e3, 3) for name, some in took.items()}
    return {
        "shape": list(shape), **least, "times": round(least["torch"] / least["pomona"], 1),
        "apart": round(float(apart), 5),
    }  # fmt: skip


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measured(shape, given.rounds) for shape in SHAPES]
    for row in rows:
        print(row)
    told = {"machine": machine(), "versions": {"torch": version("torch")}, "seed": 0, "rows": rows}
    write_json(given.out, told)


if __name__ == "__main__":
    main()
