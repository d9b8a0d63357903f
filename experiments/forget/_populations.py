"""What the experiments in this folder share: small classifiers that are trained for each seed and
pruned to every level, kept as they come so that a killed run goes on, and audited at the end.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pomona.files import atomic_file, write_json
from pomona.forget import Audit, LevelAudit, audit

LEVELS = ("0.3", "0.5", "0.7", "0.9", "0.95")
GRADUAL = ("0.5", "0.9")  # levels that are also reached while training (Zhu & Gupta 2017)
RESULTS = Path(__file__).with_name("results")

Arrays = dict[str, NDArray[Any]]


def options(doc: str | None, seeds: int = 30) -> argparse.ArgumentParser:
    """The command line that all experiments have."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=seeds, help="models of every level")
    parser.add_argument("--work", type=Path, default=Path("runs/forget"), help="what is kept")
    parser.add_argument("--out", type=Path, help="the JSON of the result")
    parser.add_argument("--permutations", type=int, default=1000)
    return parser


def kept(file: Path, make: Callable[[], Arrays]) -> Arrays:
    """The arrays in a file, made now unless an earlier run made them."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as partial, partial.open("wb") as stream:
            np.savez(stream, **make())  # pyright: ignore[reportArgumentType]
    with np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def prune(weights: Sequence[torch.Tensor], level: float) -> list[torch.Tensor]:
    """The masks that keep the largest weights of each matrix, after which the others are 0."""
    masks = []
    for weight in weights:
        count = round(level * weight.numel())
        mask = torch.ones_like(weight, dtype=torch.bool)
        if count:
            mask.view(-1)[weight.abs().view(-1).topk(count, largest=False).indices] = False
        weight.data *= mask
        masks.append(mask)
    return masks


def ramp(level: float, step: int, steps: int) -> float:
    """How sparse the weights are at a step of a gradual pruning, which ends before the last fifth
    (Zhu & Gupta 2017, equation 1, from 0).
    """
    return level * (1 - (1 - min(1.0, step / (0.8 * steps))) ** 3)


Batches = Callable[[int], Sequence[tuple[Any, torch.Tensor]]]


def train(
    network: torch.nn.Module, batches: Batches, epochs: int, rate: float
) -> tuple[torch.nn.Module, dict[str, torch.nn.Module]]:
    """The dense network, and those that were pruned gradually in the last half of the epochs, which
    all have seen the same examples in the same order.
    """
    first, rest = range(epochs // 2), range(epochs // 2, epochs)
    _pass(network, [batch for epoch in first for batch in batches(epoch)], rate, None)
    last = [batch for epoch in rest for batch in batches(epoch)]
    gradual = {f"{level} gradual": _copy(network) for level in GRADUAL}
    _pass(network, last, rate / 3, None)
    for level, twin in zip(GRADUAL, gradual.values(), strict=True):
        _pass(twin, last, rate / 3, float(level))
    return network, gradual


def _copy(network: torch.nn.Module) -> torch.nn.Module:
    return copy.deepcopy(network)


def matrices(network: torch.nn.Module) -> list[torch.Tensor]:
    """All that is pruned: biases are not."""
    return [weight for weight in network.parameters() if weight.ndim > 1]


def _pass(
    network: torch.nn.Module,
    batches: Sequence[tuple[Any, torch.Tensor]],
    rate: float,
    level: float | None,
) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    masks: list[torch.Tensor] = []
    for step, (inputs, labels) in enumerate(batches):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(inputs), labels).backward()
        optimizer.step()
        if level is not None and (step % 10 == 0 or step == len(batches) - 1):
            masks = prune(matrices(network), ramp(level, step, len(batches)))
        for weight, mask in zip(matrices(network), masks, strict=bool(masks)):
            weight.data *= mask


def answers(
    network: torch.nn.Module,
    gradual: Mapping[str, torch.nn.Module],
    inputs: Callable[[torch.nn.Module], torch.Tensor],
) -> Arrays:
    """The labels and their probabilities of the dense network, of what it is pruned to in one shot,
    and of those that were pruned gradually: arrays `LEVEL/label` and `LEVEL/probability`.
    """
    told = {"dense": network, **gradual}
    for level in LEVELS:
        twin = _copy(network)
        prune(matrices(twin), float(level))
        told[level] = twin
    found: Arrays = {}
    for level, one in told.items():
        with torch.no_grad():
            chances = torch.softmax(inputs(one), dim=1)
        best = chances.max(dim=1)
        found[f"{level}/label"] = best.indices.numpy().astype(np.int16)
        found[f"{level}/probability"] = best.values.numpy().astype(np.float32)
    return found


def table(
    models: Mapping[int, Arrays], labels: Sequence[str], items: Mapping[str, Sequence[Any]]
) -> pa.Table:
    """The answers of all models, as `pomona.forget.audit` takes them; `items` says what is known of
    every item.
    """
    names = np.asarray(labels, object)
    shared = {name: pa.array(values) for name, values in items.items()}
    n, parts = len(next(iter(shared.values()))), []
    for seed, arrays in models.items():
        for key in (name for name in arrays if name.endswith("/label")):
            level = key.removesuffix("/label")
            columns = {"level": [level] * n, "seed": [str(seed)] * n}
            columns["prediction"] = pa.array(names[arrays[key]], pa.string())
            columns["probability"] = arrays[f"{level}/probability"].astype(np.float64)
            parts.append(pa.table({**shared, **columns}))
    return pa.concat_tables(parts)


def report(rows: pa.Table, arguments: argparse.Namespace, name: str, **more: Any) -> Audit:
    """Audit the rows, print what was found, and write it as JSON."""
    started = time.process_time()
    extra = more.pop("audit", {})
    result = audit(rows, permutations=arguments.permutations, **extra)
    for line in result.headline():
        print(line, flush=True)
    told = {
        "experiment": name,
        "models": arguments.seeds,
        "found": result.headline(),
        **more,
        "levels": [_level(level) for level in result.levels],
        "notes": result.notes,
        "signature": result.signature,
        "audit_cpu_seconds": round(time.process_time() - started, 1),
    }
    out = arguments.out or RESULTS / f"{name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, json.loads(json.dumps(told), parse_float=lambda text: round(float(text), 5)))
    print(out)
    return result


def _level(level: LevelAudit) -> dict[str, Any]:
    """A level without the rows of groups, of which the affected are counted and named."""
    told = asdict(level)
    groups = told.pop("groups")
    tests = ("p_published", "p_holm", "p_bh", "p_excess_bh")
    told["groups"] = len(groups)
    told["affected"] = {
        test: sum(one[test] is not None and one[test] <= 0.05 for one in groups.values())
        for test in tests
    }
    told["lose_more"], told["lose_less"] = level.affected(False), level.affected(True)
    told["subgroups"] = {
        name: {"score": one["score"], **one["rates"]}
        for name, one in groups.items()
        if one["rates"]
    }
    return told
