"""What a small judge is worth: smollm2 chooses among its own answers to the instructions of
constraints.py.

python experiments/sampling/judges.py [--items 60] [--store build/constraints.db]

Hedged pools at temperature 1.2 with min-p 0.1, the same answers as in constraints.py if it ran with
this store. `chops` writes a checklist and picks once, `mbr-judge` grades each pair of answers.
FLOPs are those of the pool and of all that the judge read and wrote.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from constraints import Task, draw_pool, make_tasks

from pomona import stats, tasks
from pomona.answers import Account, CachedModel
from pomona.models import Reply, Request, load
from pomona.sample import SelectionContext, choose, parse_strategy

POOL = "t1.2-minp0.1"
ARMS = ((4, "random"), (4, "mbr"), (4, "mbr-judge"), (4, "chops"), (8, "random"), (8, "chops"))


async def chosen(
    model: CachedModel, task: Task, pool: Sequence[Reply], choice: str, seed: int
) -> tuple[Reply, float, bool]:
    """The answer that a choice takes, the FLOPs of choosing, and whether the judge named none."""
    request = Request(messages=({"role": "user", "content": task.prompt},), seed=seed)
    desk = SelectionContext(
        request, parse_strategy(f"hedged{len(pool)}-{choice}"), (model,), Account(), seed=seed
    )
    found = await choose(desk, pool)
    return pool[found.chosen], desk.spent.flops, "fallback" in found.notes


async def arm(
    model: CachedModel,
    made: Sequence[Task],
    pools: Sequence[Sequence[Reply]],
    n: int,
    choice: str,
    seed: int,
) -> dict[str, Any]:
    """Share of instructions fulfilled, by kind too, and its gain over the greedy answer."""
    metric, resamples = tasks.metric("exact_match"), stats.Resamples(len(made))
    taken = [
        await chosen(model, task, pool[:n], choice, seed)
        for task, pool in zip(made, pools, strict=True)
    ]
    drawn = [sum(reply.spent.flops for reply in pool[:n]) for pool in pools]
    right = [task.check(reply.text) for task, (reply, _, _) in zip(made, taken, strict=True)]
    greedy = [task.check(pool[0].text) for task, pool in zip(made, pools, strict=True)]
    ours, theirs = (
        metric.statistics([str(int(value)) for value in values], ["1"] * len(made))
        for values in (right, greedy)
    )
    comparison = stats.compare(metric, ours, theirs, resamples)
    kinds = {
        kind: np.mean([value for value, task in zip(right, made, strict=True) if task.kind == kind])
        for kind in made_kinds(made)
    }
    return {
        "n": n,
        "choice": choice,
        "fulfilled": comparison.value,
        "gain": (comparison.delta, comparison.ci_low, comparison.ci_high),
        "pool": np.mean(drawn),
        "choosing": np.mean([flops for _, flops, _ in taken]),
        "greedy": np.mean(
            [reply is pool[0] for (reply, _, _), pool in zip(taken, pools, strict=True)]
        ),
        "named none": sum(none for _, _, none in taken),
        "kinds": kinds,
    }


def made_kinds(made: Sequence[Task]) -> list[str]:
    """The kinds of instructions, each once."""
    return list(dict.fromkeys(task.kind for task in made))


async def run(items: int, store: Path, seed: int) -> None:
    """Draw every pool or read it from the store, then let every arm choose."""
    store.parent.mkdir(parents=True, exist_ok=True)
    made = make_tasks(items, seed)
    model = CachedModel(load("smollm2", threads=1, concurrency=16), store)
    print(
        "| n | choice | fulfilled, % | gain | greedy taken, % | judge named none | FLOPs of "
        "the pool | of choosing | by kind |"
    )
    print("|--:|---|--:|---|--:|--:|--:|--:|---|")
    try:
        pools = []
        for task in made:
            pools.append(await draw_pool(model, task, POOL, 16, seed))
        for n, choice in ARMS:
            row = await arm(model, made, pools, n, choice, seed)
            gain = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*row["gain"])
            kinds = ", ".join(f"{kind} {100 * share:.0f}" for kind, share in row["kinds"].items())
            print(
                f"| {n} | {choice} | {row['fulfilled']:.1f} | {gain} | "
                f"{100 * row['greedy']:.0f} | {row['named none']} "
                f"| {row['pool']:.2g} | {row['choosing']:.2g} | {kinds} |",
                flush=True,
            )
    finally:
        await model.close()
    print(f"seed {seed}, {items} items", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, default=Path("build/constraints.db"))
    arguments = parser.parse_args()
    asyncio.run(run(arguments.items, arguments.store, arguments.seed))


if __name__ == "__main__":
    main()
