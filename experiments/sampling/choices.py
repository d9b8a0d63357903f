"""Choices that ask another model or another language, and pools of two models, on the `ui`
translations.

python experiments/sampling/choices.py [--out runs/choices] [--per-group 10] [--seed 0]

Ten test items for each of 28 languages, chrF against the reference. Every pool is hedged, at
temperature 0.8; gains are over the greedy answer of ui-s, with paired intervals over items.
`further` lends a pool three more answers as evidence: in the same language (the control), or in a
related one, which is what X-MBR means for a model that knows one language by its prompt. Answers
are kept in the folder of --out, so a second run pays for nothing but embeddings.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from stopping import sampled

from pomona import stats, tasks
from pomona.answers import Account, CachedModel
from pomona.models import Reply, Request, load
from pomona.sample import SelectionContext, answer, parse_strategy
from pomona.sample.selection.mbr import utilities

RELATED = {
    "fr": "it",
    "es": "pt_BR",
    "pt_BR": "gl",
    "it": "es",
    "ca": "es",
    "ro": "it",
    "gl": "pt_BR",
    "de": "nl",
    "nl": "de",
    "sv": "da",
    "da": "nb",
    "nb": "da",
    "af": "nl",
    "nn": "nb",
    "ru": "uk",
    "pl": "cs",
    "cs": "pl",
    "uk": "ru",
    "be": "ru",
    "mk": "ru",
    "hsb": "cs",
    "tr": "id",
    "id": "tr",
    "el": "fr",
    "hi": "de",
    "zh_Hans": "de",
    "cy": "fr",
    "sw": "id",
}
FURTHER = 3
PANELS = {"ui-s": ("ui-s",), "ui-m": ("ui-m",), "ui-s + ui-m": ("ui-s", "ui-m")}
MODELS = ("ui-s", "ui-m", "ui-l")
SAME, OTHER = "chrF-MBR, 3 further, same language", "chrF X-MBR, 3 further, related language"
PAIRS = (
    *((("ui-s + ui-m", "chrF-MBR", n), ("ui-m", "chrF-MBR", n)) for n in (4, 8, 16)),
    *((("ui-s", OTHER, n), ("ui-s", choice, n)) for n in (5, 16) for choice in (SAME, "chrF-MBR")),
)
Found = tuple[str, float]  # a text and the FLOPs it took
Arm = Callable[[Mapping[str, Any]], Awaitable[Found]]


@dataclass(frozen=True)
class Bench:
    """The models behind their stores, and the seed of everything."""

    models: Mapping[str, CachedModel]
    seed: int

    def request(self, row: Mapping[str, Any], lang: str) -> Request:
        """The translation of a row into a language."""
        return Request(prompt=f"<|{lang}|>{row['english']}<|to|>", max_tokens=64, seed=self.seed)

    def strategy(self, panel: str, name: str, judge: str | None = None) -> Arm:
        """What a strategy of Pomona takes."""

        async def arm(row: Mapping[str, Any]) -> Found:
            models, arbiter = (
                [self.models[each] for each in PANELS[panel]],
                self.models[judge] if judge else None,
            )
            reply = await answer(
                self.request(row, row["lang"]), models, parse_strategy(name), judge=arbiter
            )
            return reply.text, reply.spent.flops

        return arm

    def further(self, n: int, utility: str, related: bool) -> Arm:
        """MBR with three further answers as evidence that cannot be chosen themselves."""
        strategy = parse_strategy(
            f"hedged{n}-xmbr" + ("-embedding" if utility == "embedding" else "")
        )

        async def arm(row: Mapping[str, Any]) -> Found:
            model, request = self.models["ui-s"], self.request(row, row["lang"])
            pool = await model.reply(request, [(at, 0.8 * (at > 0)) for at in range(n)])
            asked = self.request(row, RELATED[row["lang"]]) if related else request
            more = await model.reply(asked, [(n + at, 0.8) for at in range(FURTHER)])
            desk = SelectionContext(
                request, strategy, (model,), Account(), self.models["ui-l"], self.seed
            )
            scores = (await utilities(desk, _texts(pool), _texts([*pool, *more]))).mean(axis=1)
            flops = sum(reply.spent.flops for reply in (*pool, *more)) + desk.spent.flops
            return pool[int(np.argmax(scores.round(9)))].text, flops

        return arm


def _texts(replies: Sequence[Reply]) -> list[str]:
    return [reply.text for reply in replies]


def arms(bench: Bench) -> dict[tuple[str, str, int], Arm]:
    """Every arm by models, choice and number of answers; the first is what gains are over."""
    found: dict[tuple[str, str, int], Arm] = {
        (name, "greedy", 1): bench.strategy(name, "greedy") for name in ("ui-s", "ui-m")
    }
    for n in (4, 8, 16):
        for panel in PANELS:
            found[panel, "random", n] = bench.strategy(panel, f"hedged{n}-random")
            found[panel, "chrF-MBR", n] = bench.strategy(panel, f"hedged{n}-mbr")
    for n in (5, 16):
        if n == 5:
            found["ui-s", "random", n] = bench.strategy("ui-s", "hedged5-random")
            found["ui-s", "chrF-MBR", n] = bench.strategy("ui-s", "hedged5-mbr")
        found["ui-s", "MBR by states of ui-l", n] = bench.strategy(
            "ui-s", f"hedged{n}-mbr-embedding", "ui-l"
        )
        found["ui-s", SAME, n] = bench.further(n, "chrf", related=False)
        found["ui-s", OTHER, n] = bench.further(n, "chrf", related=True)
        found["ui-s", "X-MBR by states of ui-l, related language", n] = bench.further(
            n, "embedding", related=True
        )
    return found


def _interval(found: stats.Comparison) -> str:
    return f"{found.delta:+.2f} [{found.ci_low:+.2f}, {found.ci_high:+.2f}]"


async def run(rows: Sequence[Mapping[str, Any]], out: Path, seed: int) -> None:
    """Answer every row by every arm and print how far each is from greedy."""
    metric, resamples = tasks.metric("chrf"), stats.Resamples(len(rows))
    truths = [row["translation"] for row in rows]
    bench = Bench({name: CachedModel(load(name), out / "answers.db") for name in MODELS}, seed)
    scored: dict[tuple[str, str, int], tuple[Any, float]] = {}
    print(
        "| models | choice | answers | chrF | gain over greedy ui-s | FLOPs an item | gain "
        "for 1e9 more FLOPs |"
    )
    print("|---|---|--:|--:|---|--:|--:|")
    try:
        for key, arm in arms(bench).items():
            found = [await arm(row) for row in rows]
            ours, flops = (
                metric.statistics([text for text, _ in found], truths),
                float(np.mean([cost for _, cost in found])),
            )
            scored[key] = ours, flops
            base, least = next(iter(scored.values()))
            gained = stats.compare(metric, ours, base, resamples)
            rate = f"{gained.delta / (flops - least) * 1e9:+.1f}" if flops > least else ""
            print(
                "",
                *key,
                f"{gained.value:.2f}",
                _interval(gained),
                f"{flops:.3g}",
                rate,
                "",
                sep=" | ",
                flush=True,
            )
        for one, other in PAIRS:
            print(
                one,
                "over",
                other,
                _interval(stats.compare(metric, scored[one][0], scored[other][0], resamples)),
            )
    finally:
        for model in bench.models.values():
            await model.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/choices"))
    parser.add_argument("--per-group", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    asyncio.run(
        run(sampled(arguments.per_group, arguments.seed).to_pylist(), arguments.out, arguments.seed)
    )


if __name__ == "__main__":
    main()
