"""What more answers and each choice among them buy smollm2 on instructions whose fulfilment a
program can check.

python experiments/sampling/constraints.py [--items 60] [--store build/constraints.db]

One hedged pool of 16 answers an instruction, whose beginnings are the smaller pools; the same at
temperature 1.2 with min-p. `checked` takes the first answer that passes the check: the bound of any
choice, and what best-of-n with such a reward reaches.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pomona import stats, tasks
from pomona.answers import Account, Budget, CachedModel
from pomona.models import Reply, Request, load
from pomona.sample import SelectionContext, choose, parse_strategy

TOPICS = (
    "rain",
    "bread",
    "a library",
    "the sea",
    "bicycles",
    "winter",
    "a market",
    "bees",
    "a train",
    "music",
    "tea",
    "a garden",
    "the moon",
    "a bridge",
    "chess",
    "wool",
    "a lighthouse",
    "salt",
    "a village",
    "maps",
    "apples",
    "a river",
    "glass",
    "sleep",
)
POOLS = ("t0.8", "t1.2-minp0.1")
SIZES = (1, 2, 4, 8, 16)
CHOICES = ("random", "mbr", "vote-text", "best", "best-sum")


@dataclass(frozen=True)
class Task:
    """An instruction, the check of an answer, and the kind of the check."""

    prompt: str
    check: Callable[[str], bool]
    kind: str


def task_of(kind: str, topic: str, draw: random.Random) -> Task:
    """An instruction of one kind about a topic."""
    word, count = (
        draw.choice(["always", "because", "quiet", "people", "morning"]),
        draw.choice([1, 2, 3]),
    )
    asked, check = {
        "sentences": (
            f"in exactly {count} sentence{'s' * (count > 1)}",
            lambda text: len(re.findall(r"[.!?]+(?:\s|$)", text)) == count,
        ),
        "word": (
            f'in one sentence with the word "{word}"',
            lambda text: re.search(rf"\b{word}\b", text.lower()) is not None,
        ),
        "short": ("in fewer than 12 words", lambda text: 0 < len(text.split()) < 12),
        "lower": (
            "in one sentence, in lower case letters only",
            lambda text: text.strip() != "" and text == text.lower(),
        ),
        "comma": (
            "in one sentence without any comma",
            lambda text: text.strip() != "" and "," not in text,
        ),
        "question": (
            "as one question",
            lambda text: text.strip().endswith("?") and text.count("?") == 1,
        ),
    }[kind]
    return Task(f"Write about {topic} {asked}. Answer with the text only.", check, kind)


def make_tasks(n: int, seed: int) -> list[Task]:
    """`n` instructions, of the six kinds in turn."""
    draw = random.Random(seed)
    kinds = ("sentences", "word", "short", "lower", "comma", "question")
    return [
        task_of(kinds[at % len(kinds)], TOPICS[(at // len(kinds)) % len(TOPICS)], draw)
        for at in range(n)
    ]


async def draw_pool(model: CachedModel, task: Task, pool: str, n: int, seed: int) -> list[Reply]:
    """The greedy answer and n − 1 sampled ones."""
    heat = parse_strategy(f"hedged{n}-{pool}")
    temperature = heat.temperature or 0.8
    request = Request(
        messages=({"role": "user", "content": task.prompt},),
        max_tokens=40,
        seed=seed,
        temperature=temperature,
        min_p=heat.min_p or 0.0,
        logprobs=0,
    )
    return await model.reply(request, [(0, 0.0), *((index, temperature) for index in range(1, n))])


async def taken(task: Task, pool: Sequence[Reply], choice: str) -> Reply:
    """The answer that a choice takes from a pool."""
    if choice == "checked":
        return next((reply for reply in pool if task.check(reply.text)), pool[0])
    if choice == "greedy" or len(pool) == 1:
        return pool[0]
    strategy = parse_strategy(f"hedged{len(pool)}-{choice}")
    desk = SelectionContext(
        Request(messages=({"role": "user", "content": task.prompt},)),
        strategy,
        (),
        Account(Budget()),
    )
    return pool[(await choose(desk, pool)).chosen]


async def measured(
    made: Sequence[Task], pools: Sequence[Sequence[Reply]], pool: str
) -> list[dict[str, Any]]:
    """A row for every size and choice: the share of instructions fulfilled, its gain over the
    greedy answer, and FLOPs an answer.
    """
    metric, resamples = tasks.metric("exact_match"), stats.Resamples(len(made))

    def statistics(texts: Sequence[str]) -> Any:
        return metric.statistics(
            [str(int(task.check(text))) for task, text in zip(made, texts, strict=True)],
            ["1"] * len(made),
        )

    greedy, rows = statistics([drawn[0].text for drawn in pools]), []
    for n in SIZES:
        flops = float(np.mean([sum(reply.spent.flops for reply in drawn[:n]) for drawn in pools]))
        for choice in ("greedy",) if n == 1 else (*CHOICES, "checked"):
            texts = [
                (await taken(task, drawn[:n], choice)).text
                for task, drawn in zip(made, pools, strict=True)
            ]
            comparison = stats.compare(metric, statistics(texts), greedy, resamples)
            gain = [
                round(value, 1)
                for value in (comparison.delta, comparison.ci_low, comparison.ci_high)
            ]
            rows.append(
                {
                    "pool": pool,
                    "n": n,
                    "choice": choice,
                    "fulfilled": round(comparison.value, 1),
                    "gain": gain,
                    "flops": flops,
                }
            )
    return rows


async def run(items: int, store: Path, seed: int) -> list[dict[str, Any]]:
    """Draw every pool, choose, and check."""
    made, rows = make_tasks(items, seed), []
    store.parent.mkdir(parents=True, exist_ok=True)
    model = CachedModel(load("smollm2", threads=1, concurrency=16), store)
    try:
        for pool in POOLS:
            pools = []
            for at, task in enumerate(made, 1):
                pools.append(await draw_pool(model, task, pool, max(SIZES), seed))
                if at % 20 == 0:
                    print(f"{pool}: {at} of {items}", file=sys.stderr, flush=True)
            rows += await measured(made, pools, pool)
    finally:
        await model.close()
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--store", type=Path, default=Path("build/constraints.db"))
    arguments = parser.parse_args()
    print(
        "| pool | n | choice | fulfilled, % | gain | FLOPs an answer |\n|---|--:|---|--:|--:|--:|"
    )
    for row in asyncio.run(run(arguments.items, arguments.store, arguments.seed)):
        low, high = row["gain"][1:]
        gain = f"{row['gain'][0]:+.1f} [{low:+.1f}, {high:+.1f}]"
        print(
            f"| {row['pool']} | {row['n']} | {row['choice']} | {row['fulfilled']:.1f} | "
            f"{gain} | {row['flops']:.2g} |"
        )


if __name__ == "__main__":
    main()
