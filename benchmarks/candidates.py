"""CPU seconds of five candidates from one request, beside five requests of one candidate each, on
the embedded backends.

The sides take turns over the same prompts, in one process and thread; the medians of the turns are
compared. For `ui-*` prompts are labels to translate, for `smollm2` a paragraph with a question and
an answer of at most 48 tokens, or of at most 12. llama.cpp keeps the prompt of the last request, so
five requests in a row read it once too; "anew" is without that, as when requests go to several
servers.
    python benchmarks/candidates.py --out benchmarks/results/candidates.json
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from _machine import machine

from pomona import records
from pomona.files import write_json
from pomona.models import Model, Request, load

CANDIDATES, TEMPERATURE = 5, 0.8
SIDES = ("one request", "five requests", "five requests, anew")
CASES = (("ui-s", 48), ("ui-l", 48), ("smollm2", 48), ("smollm2", 12))
TEXT = (
    "The library opens at nine on weekdays and at eleven on Saturdays. Members may borrow "
    "ten books for three weeks and renew "
    "each of them twice, unless another reader is waiting. Visitors read in the hall on the "
    "ground floor, where the catalogue "
    "and the newspapers are. Maps and manuscripts are kept in the cellar: ask at the desk a day "
    "before, and bring a pencil. "
    "Fines are paid at the door."
)


def requests(uri: str, count: int, longest: int) -> list[Request]:
    """Prompts of one kind, each with a seed of its own."""
    if uri == "smollm2":
        topics = (
            "opening hours",
            "fines",
            "manuscripts",
            "newspapers",
            "renewals",
            "maps",
            "visitors",
            "the catalogue",
        )
        asked = [
            f"{TEXT}\n\nIn two sentences, what does the text say about {topic}?" for topic in topics
        ]
        return [
            Request(
                messages=({"role": "user", "content": asked[at % len(asked)]},),
                max_tokens=longest,
                temperature=TEMPERATURE,
                seed=at,
            )
            for at in range(count)
        ]
    rows = records.read("ui").to_table().to_pylist()
    rows = [
        row
        for row in rows
        if row["split"] == "test" and row["lang"] == "de" and len(row["english"].split()) > 4
    ][:count]
    prompts = [f"<|de|>{row['english']}<|to|>" for row in rows]
    return [
        Request(prompt=prompt, max_tokens=longest, temperature=TEMPERATURE, seed=at)
        for at, prompt in enumerate(prompts)
    ]


async def seconds(model: Model, asked: list[Request], side: str) -> tuple[float, int]:
    """CPU seconds of all candidates of all requests, and the tokens they hold."""
    begin, tokens = time.process_time(), 0
    for request in asked:
        if side == "five requests, anew":
            request = replace(request, extra={"cache_prompt": False})
        samples = [(index, TEMPERATURE) for index in range(CANDIDATES)]
        for part in [samples] if side == "one request" else [[sample] for sample in samples]:
            replies = await model.reply(request, part)
            tokens += sum(reply.spent.completion_tokens for reply in replies)
    return time.process_time() - begin, tokens


async def measure(uri: str, prompts: int, rounds: int, longest: int) -> dict[str, Any]:
    """The turns of all sides, and what one request costs as a share of five."""
    model = load(uri, threads=1)
    asked = requests(uri, prompts, longest)
    sides = SIDES if uri == "smollm2" else SIDES[:2]
    await seconds(model, asked[:1], SIDES[0])
    turns: dict[str, list[tuple[float, int]]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side in sides:
            turns[side].append(await seconds(model, asked, side))
    await model.close()
    median = {
        side: statistics.median(second for second, _ in found) for side, found in turns.items()
    }
    per_token = {
        side: statistics.median(second / tokens for second, tokens in found)
        for side, found in turns.items()
    }
    return {
        "longest_answer": longest,
        "seconds": {
            side: [round(second, 3) for second, _ in found] for side, found in turns.items()
        },
        "share": {side: round(median[SIDES[0]] / median[side], 3) for side in sides[1:]},
        "share_per_token": {
            side: round(per_token[SIDES[0]] / per_token[side], 3) for side in sides[1:]
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/candidates.json"))
    arguments = parser.parse_args()
    found = [
        {"model": uri, **asyncio.run(measure(uri, arguments.prompts, arguments.rounds, longest))}
        for uri, longest in CASES
    ]
    versions = {name: version(name) for name in ("pomona", "torch", "xllamacpp")}
    write_json(
        arguments.out,
        {
            "unit": "CPU seconds, one thread",
            "machine": machine(),
            "versions": versions,
            "prompts": arguments.prompts,
            "cases": found,
        },
    )
    print(*found, sep="\n")


if __name__ == "__main__":
    main()
