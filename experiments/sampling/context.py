"""Where retrieval, tools and feedback help a small model and where they do not, with paired
intervals.

python experiments/sampling/context.py retrieval --corpora DIR [--items 120]
python experiments/sampling/context.py tools [--items 120]
python experiments/sampling/context.py feedback [--items 120]

DIR is what scripts/build_corpora.py wrote. Answers of smollm2 are greedy and kept in --store, so
that a second run asks nothing twice.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from context_items import (
    Item,
    capitals,
    manual,
    manual_questions,
    pages,
    paraphrases,
    strings,
    sum_examples,
    sums,
)
from pomona.sample.selection.vote import extractor

from pomona import stats, tasks
from pomona.answers import CachedModel
from pomona.models import Model, Reply, Request, load
from pomona.sample import answer, parse_strategy
from pomona.sample.context import Context, Feedback, Index, Memory, Retrieval, Thought, Tools, tool
from pomona.sample.context.tools import calculator

GREEDY = parse_strategy("greedy")
NUMBER = extractor("number")


@dataclass(frozen=True)
class Said:
    """The answers of one arm, and the mean tokens that one cost."""

    texts: list[str]
    notes: list[Mapping[str, Any]]
    tokens: float


@dataclass(frozen=True)
class Turns:
    """Shows the same earlier turns before every question: what examples are worth when they are not
    looked for.
    """

    turns: Sequence[tuple[str, str]]
    name: str = "turns"

    async def before(self, request: Request, model: Model) -> tuple[Request, Mapping[str, Any]]:
        from pomona.sample.context.messages import before_question

        return before_question(request, list(self.turns)), {}

    async def after(
        self, request: Request, reply: Reply, model: Model, notes: Mapping[str, Any]
    ) -> tuple[Reply, Mapping[str, Any]]:
        return reply, notes


async def ask(
    model: Model, requests: Sequence[Request], context: Sequence[Context], label: str
) -> Said:
    """One greedy answer to each request, one after the other: llama.cpp's answers are then the same
    every time.
    """
    found = []
    for number, request in enumerate(requests, 1):
        found.append(await answer(request, model, GREEDY, context=context))
        if number % 20 == 0:
            print(f"{label}: {number} of {len(requests)}", file=sys.stderr, flush=True)
    tokens = [one.spent.prompt_tokens + one.spent.completion_tokens for one in found]
    return Said([one.text for one in found], [one.notes for one in found], float(np.mean(tokens)))


def requests_of(items: Sequence[Item], max_tokens: int, system: str | None = None) -> list[Request]:
    first = ({"role": "system", "content": system},) if system else ()
    return [Request(messages=(*first, *item.messages), max_tokens=max_tokens) for item in items]


def table(
    title: str,
    items: Sequence[Item],
    arms: Mapping[str, Said],
    right: Callable[[str, Item], bool] | None = None,
) -> None:
    """Each arm against the first: share of right answers, or chrF of the whole set where `right` is
    None.
    """
    metric = tasks.metric("chrf" if right is None else "exact_match")
    references = [item.answer for item in items] if right is None else ["1"] * len(items)

    def outputs(said: Said) -> list[str]:
        return (
            said.texts
            if right is None
            else [str(int(right(text, item))) for text, item in zip(said.texts, items, strict=True)]
        )

    resamples = stats.Resamples(len(items))
    first = next(iter(arms.values()))
    base = metric.statistics(outputs(first), references)
    print(f"\n**{title}** (n = {len(items)}, {metric.signature}|boot:1000|seed:0)\n")
    print("| arm | value | difference | tokens |\n|---|--:|--:|--:|")
    for name, said in arms.items():
        comparison = stats.compare(
            metric, metric.statistics(outputs(said), references), base, resamples
        )
        difference = (
            ""
            if said is first
            else f"{comparison.delta:+.1f} [{comparison.ci_low:+.1f}, {comparison.ci_high:+.1f}]"
        )
        print(f"| {name} | {comparison.value:.1f} | {difference} | {said.tokens:.0f} |", flush=True)


def samples(items: Sequence[Item], arms: Mapping[str, Said], count: int = 3) -> None:
    for item in range(count):
        print(f"\n> {items[item].question} ({items[item].answer})")
        for name, said in arms.items():
            print(f"> - {name}: {' '.join(said.texts[item].split())[:200]}")


def names_it(text: str, item: Item) -> bool:
    return item.answer.casefold() in text.casefold()


def same_number(text: str, item: Item) -> bool:
    return NUMBER(text) == item.answer


async def retrieval(model: Model, args: argparse.Namespace) -> None:
    paragraphs = manual(args.corpora / "manpages.parquet")
    items = manual_questions(paragraphs, args.items, args.seed)
    with tempfile.TemporaryDirectory() as folder:
        index = Index.build(
            pages(paragraphs), source="source", out=Path(folder) / "manual", longest=500
        )
        found = [await index.search(item.question, 3) for item in items]
        recall = np.mean(
            [
                any(item.answer in passage.text for passage in passages)
                for item, passages in zip(items, found, strict=True)
            ]
        )
        print(
            f"{len(index)} passages; the description is among the first three for "
            f"{100 * recall:.0f} % of {len(items)} questions"
        )
        lever = Retrieval(index, k=3, tokens=500)
        requests = requests_of(
            items, 48, "You explain the Linux manual. Answer in one short sentence."
        )
        arms = {
            "without": await ask(model, requests, [], "manual, without"),
            "retrieval": await ask(model, requests, [lever], "manual, retrieval"),
        }
        table("manual pages: does the answer say what the page says?", items, arms)
        told = [notes["retrieval"] for notes in arms["retrieval"].notes]
        print(
            (
                f"\nanswers that cite a passage: {sum(bool(one['cited']) for one in told)}, "
                "that cited none there is: "
            ),
            end="",
        )
        print(sum(bool(one["unknown"]) for one in told))
        samples(items, arms)
        await _meaning(paragraphs, Path(folder))
        other = capitals()
        arms = {
            "without": await ask(model, requests_of(other, 32), [], "capitals, without"),
            "retrieval": await ask(model, requests_of(other, 32), [lever], "capitals, retrieval"),
        }
        table("capitals, with manual pages to look them up in", other, arms, names_it)
        samples(other, arms)


async def _meaning(paragraphs: pa.Table, folder: Path, lines: int = 600, asked: int = 200) -> None:
    """Is the right NAME line the first that is found for a sentence that says the same in other
    words?
    """
    items = paraphrases(paragraphs, lines, seed=1)
    named = pa.table({"text": [item.answer for item in items]})
    arms = {}
    for name, embed in (("words", None), ("words and ui-l", "ui-l")):
        index = Index.build(named, out=folder / "names", embed=embed)
        found = [await index.search(item.question, 1) for item in items[:asked]]
        await index.close()
        arms[name] = Said([passages[0].text if passages else "" for passages in found], [], 0.0)
        print(f"paraphrases, {name}", file=sys.stderr, flush=True)
    table(
        f"finding one of {lines} NAME lines by the page's first sentence",
        items[:asked],
        arms,
        lambda text, item: text == item.answer,
    )


async def tools(model: Model, args: argparse.Namespace) -> None:
    items, examples = sums(args.items, args.seed), sum_examples()
    lever = Tools([tool(calculator)], calls=3, examples=examples)
    half = Tools([tool(calculator)], calls=3, examples=sum_examples((0, 2)))
    shown = Turns([(question, said) for question, _, _, said in examples])
    arms = {
        "same examples, no tool": await ask(
            model, requests_of(items, 48), [shown], "sums, examples"
        ),
        "chain of thought, no examples": await ask(
            model, requests_of(items, 48), [Thought(150)], "sums, thought"
        ),
        "calculator": await ask(model, requests_of(items, 48), [lever], "sums, calculator"),
        "calculator, examples of two of the four kinds": await ask(
            model, requests_of(items, 48), [half], "sums, half"
        ),
    }
    table("sums in words", items, arms, same_number)
    for kind, name in enumerate(("product", "plus and minus", "product and sum", "quotient")):
        share = [
            100
            * np.mean([same_number(said.texts[at], items[at]) for at in range(kind, len(items), 4)])
            for said in arms.values()
        ]
        print(f"right in {name}: {', '.join(f'{one:.0f} %' for one in share)}")
    calls = [notes["tools"]["calls"] for notes in arms["calculator"].notes]
    bad = sum("error" in call for made in calls for call in made)
    print(
        f"\nanswers with a call: {sum(map(bool, calls))}, calls: {sum(map(len, calls))}, of "
        f"them refused: {bad}"
    )
    samples(items, arms)
    other = capitals()
    arms = {
        "without": await ask(model, requests_of(other, 32), [], "capitals, without"),
        "calculator": await ask(model, requests_of(other, 32), [lever], "capitals, calculator"),
    }
    table("capitals, with a calculator at hand", other, arms, names_it)
    samples(other, arms)


async def feedback(model: Model, args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        memory = Feedback(Path(folder) / "feedback.sqlite")
        await _preference(model, memory)
        await _translations(model, memory, args.items)
        memory.close()
    await _votes(args.items)


async def _preference(model: Model, memory: Feedback) -> None:
    """A user who wants a form that no model would choose, and corrected twenty answers."""
    items = random.Random(1).sample(capitals(), len(capitals()))
    for item in items[:20]:
        memory.add(prompt=item.question, chosen="", edited=f"=> {item.answer}", user="planted")
    asked = items[20:]
    arms = {
        "without": await ask(model, requests_of(asked, 32), [], "form, without"),
        "memory": await ask(
            model, requests_of(asked, 32), [Memory(memory, user="planted")], "form, memory"
        ),
    }
    table(
        "a planted wish: capitals in the form `=> Capital`, form kept",
        asked,
        arms,
        lambda text, _: bool(re.fullmatch(r"\s*=> \w+\W*", text)),
    )
    table("the same answers: capital right", asked, arms, names_it)
    samples(asked, arms)


async def _translations(model: Model, memory: Feedback, count: int) -> None:
    """Real translations of one program's strings as what a user corrected earlier; new strings of
    the same program are asked.
    """
    known, asked = strings("train", "de", "wagtail"), strings("test", "de", "wagtail")
    asked = random.Random(2).sample(asked, min(count, len(asked)))
    for item in known:
        memory.add(prompt=item.question, chosen="", edited=item.answer, user="translator")
    fixed = [(item.question, item.answer) for item in random.Random(3).sample(known, 3)]
    lever = Memory(memory, user="translator")
    arms = {
        "three corrections, the same for all": await ask(
            model, requests_of(asked, 40), [Turns(fixed)], "strings, fixed"
        ),
        "without": await ask(model, requests_of(asked, 40), [], "strings, without"),
        "memory: corrections of similar strings": await ask(
            model, requests_of(asked, 40), [lever], "strings, memory"
        ),
    }
    print(f"\n{len(known)} corrections", end="")
    table("German strings of wagtail with smollm2", asked, arms)
    samples(asked, arms)
    translator = load("ui-s")
    for item in known:
        memory.add(prompt=_ui(item).prompt or "", chosen="", edited=item.answer, user="ui")
    requests = [_ui(item) for item in asked]
    arms = {
        "without": await ask(translator, requests, [], "ui-s, without"),
        "memory": await ask(translator, requests, [Memory(memory, user="ui")], "ui-s, memory"),
    }
    await translator.close()
    table("the same strings with ui-s, which was trained on single strings", asked, arms)
    samples(asked, arms)


def _ui(item: Item) -> Request:
    return Request(prompt=f"<|de|>{item.question.split(': ', 1)[1]}<|to|>", max_tokens=40)


async def _votes(count: int, steps: int = 1000, runs: int = 100, good: float = 50.0) -> None:
    """Replay of real answers: a user calls one good at sentence chrF of 50; the bandit chooses the
    strategy of each next prompt.
    """
    from pomona.models.torch import TorchModel
    from pomona.sample.context import Arm, thompson

    known = strings("test", "de", "django") + strings("test", "de", "wagtail")
    items = random.Random(4).sample(known, min(2 * count, len(known)))
    model = TorchModel("ui-s")
    votes: dict[str, list[bool]] = {}
    for name in ("sample", "greedy", "hedged5-mbr"):
        said = await asyncio.gather(
            *(
                answer(_ui(item), model, parse_strategy(name), seed=at)
                for at, item in enumerate(items)
            )
        )
        scores = [
            float(tasks.pairwise([one.text], [item.answer])[0, 0])
            for one, item in zip(said, items, strict=True)
        ]
        votes[name] = [score >= good for score in scores]
    await model.close()
    rates = {name: float(np.mean(found)) for name, found in votes.items()}
    print(
        (
            f"\n**which strategy next** (n = {len(items)} strings, {runs} runs of {steps} "
            "votes) called good: "
        ),
        end="",
    )
    print(", ".join(f"{name} {100 * rate:.0f} %" for name, rate in rates.items()))
    totals, lasts = [], []
    for run in range(runs):
        source, counts = np.random.default_rng(run), {name: [0, 0] for name in votes}
        chosen = []
        for step in range(steps):
            name = thompson(
                [Arm(name, *pair) for name, pair in counts.items()], seed=steps * run + step
            ).name
            counts[name][0 if votes[name][source.integers(len(items))] else 1] += 1
            chosen.append(name)
        best = max(rates.values())
        totals.append(sum(best - rates[name] for name in chosen))
        lasts.append(np.mean([rates[name] == best for name in chosen[-200:]]))
    even = steps * (max(rates.values()) - float(np.mean(list(rates.values()))))
    low, high = np.percentile(totals, [2.5, 97.5])
    print(
        f"good answers lost to not knowing: {np.mean(totals):.1f} [{low:.1f}, {high:.1f}] "
        f"of {steps}; choosing evenly loses {even:.1f}"
    )
    print(f"share of the best strategy among the last 200 choices: {100 * np.mean(lasts):.0f} %")


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lever", choices=["retrieval", "tools", "feedback"])
    parser.add_argument("--corpora", type=Path, default=Path("corpora"))
    parser.add_argument("--items", type=int, default=120)
    parser.add_argument("--seed", type=int, default=1, help="of the questions")
    parser.add_argument("--store", type=Path, default=Path("context-answers.sqlite"))
    args = parser.parse_args()
    model = CachedModel(load("smollm2"), args.store)
    try:
        await {"retrieval": retrieval, "tools": tools, "feedback": feedback}[args.lever](
            model, args
        )
    finally:
        await model.close()


if __name__ == "__main__":
    asyncio.run(main())
