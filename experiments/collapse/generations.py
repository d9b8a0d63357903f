"""Three generations of models that learn from their own answers: what is lost, and what keeps it.

    python experiments/collapse/generations.py [--work runs/collapse] [--out FILE] [--arms NAME …]

In each generation models answer English strings of the training rows in fourteen languages, six
large and the eight with the least data, at temperature 0.7, and are trained on these answers for
as many tokens in every arm; the next generation begins with what came out.

one       `ui-s` learns from its own answers
pool      `ui-xs`, `ui-s` and `ui-m` learn from the answers of all, each string answered by one of
          them at random: as many answers as in "one"
pool with real   the same, and half of the strings have their human translation instead
one with real   "one" in the same way
real      human translations only: what this training does without any answers

`ui-s` is measured in all arms, with three seeds, on test strings: chrF of greedy answers, and of
answers drawn at temperature 1 how many n-grams of words are different (blocks of 1,000 words), how
many different words the tail has, how many of the references' rare words (three times or less in
the human training rows of the language) come, and how many words no human row of the language has.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from pomona import records
from pomona.files import write_json
from pomona.stats import Resamples, Share
from pomona.synth import Assignment, TextColumns, places
from pomona.synth.profile import profile
from pomona.text import words_of

sys.path.append(str(Path(__file__).parents[1]))
from _shared import DATA
from _students import (
    PROMPT,
    RESAMPLES,
    Training,
    above,
    answers_of,
    chrf_of,
    told_of,
    train,
    where_and_with_what,
)

HEAD = ["fr", "de", "es", "nl", "ru", "pl"]
POOL = ("ui-xs", "ui-s", "ui-m")
MEASURED = "ui-s"
ARMS: dict[str, tuple[tuple[str, ...], float]] = {  # who answers, and the share of human answers
    "one": ((MEASURED,), 0.0),
    "pool": (POOL, 0.0),
    "pool with real": (POOL, 0.5),
    "one with real": ((MEASURED,), 0.5),
    "real": ((MEASURED,), 1.0),
}
GENERATIONS, SEEDS = 3, (0, 1, 2)
A_LANGUAGE, TEST = 50, 20  # rows
HOW = Training(20_000, 1e-3)
RARE = 3
Row = Mapping[str, str]


class Rows:
    """The rows of `ui` in the languages of this experiment."""

    def __init__(self) -> None:
        table = records.read("ui").where(lang=DATA.groups, split=["train", "test"]).to_table()
        every: list[dict[str, str]] = table.to_pylist()
        counts = Counter(row["lang"] for row in every if row["split"] == "train")
        self.tail = sorted(counts, key=lambda lang: (counts[lang], lang))[:8]
        self.langs = HEAD + self.tail
        every = [row | {"id": f"{row['lang']} {row['id']}"} for row in every]
        every = [row for row in every if row["lang"] in self.langs]
        self.train = [row for row in every if row["split"] == "train"]
        warm = {row["domain"] for row in self.train}
        test = [row for row in every if row["split"] == "test" and row["domain"] in warm]
        self.test = self.drawn(test, TEST, 0)
        self.words = {lang: Counter[str]() for lang in self.langs}
        for row in self.train:
            self.words[row["lang"]].update(words_of(row["translation"]))
        self.known = {lang: set(words) for lang, words in self.words.items()}
        for row in test:
            self.known[row["lang"]].update(words_of(row["translation"]))

    def drawn(self, rows: Sequence[dict[str, str]], each: int, seed: int) -> list[dict[str, str]]:
        """So many rows of each language, or all of those that have fewer."""
        asked = [Assignment(row["id"], row["english"], "en", row["lang"]) for row in rows]
        wanted = places(asked, each, seed=seed)
        return [row for row in rows if wanted[row["id"]]]


def prompts_of(rows: Sequence[Row]) -> list[str]:
    """What models of `ui` read."""
    return [PROMPT.format(lang=row["lang"], text=row["english"]) for row in rows]


def next_of(
    arm: str, seed: int, generation: int, models: Mapping[str, str | Path], rows: Rows, work: Path
) -> dict[str, str | Path]:
    """The models of a generation from those before it."""
    _, real = ARMS[arm]
    draw = 1000 * seed + generation
    asked = rows.drawn(rows.train, A_LANGUAGE, draw)
    prompts, answers = prompts_of(asked), [row["translation"] for row in asked]
    rng = np.random.default_rng(draw)
    # The same strings have human answers in every arm, and the same member answers the others
    human, member = rng.random(len(asked)) < real, rng.random(len(asked))
    folder = work / arm.replace(" ", "-") / f"{seed}-{generation}"
    for place, (name, model) in enumerate(models.items()):
        mine = np.flatnonzero(~human & (np.floor(member * len(models)) == place))
        if len(mine):
            file = folder / f"{name}.json"
            texts = answers_of(
                model, [prompts[at] for at in mine], file, temperature=0.7, seed=draw
            )
            for at, text in zip(mine, texts, strict=True):
                answers[at] = text
    # A model can write nothing, which is nothing to learn from
    pairs = [pair for pair in zip(prompts, answers, strict=True) if pair[1]]
    seen, told = [prompt for prompt, _ in pairs], [answer for _, answer in pairs]
    # After the last generation nobody answers any more
    learning = [MEASURED] if generation == GENERATIONS else list(models)
    return {name: train(models[name], seen, told, folder / name, HOW, draw) for name in learning}


def measured(model: str | Path, rows: Rows, folder: Path, seed: int) -> dict[str, list[str]]:
    """Greedy and drawn answers to the test strings."""
    prompts = prompts_of(rows.test)
    drawn = answers_of(model, prompts, folder / "drawn.json", temperature=1.0, seed=seed)
    return {"greedy": answers_of(model, prompts, folder / "greedy.json"), "drawn": drawn}


def chain(arm: str, seed: int, rows: Rows, work: Path) -> list[dict[str, list[str]]]:
    """The answers of the measured model, generation by generation."""
    members, _ = ARMS[arm]
    models: dict[str, str | Path] = {name: name for name in members}
    told = [measured(MEASURED, rows, work / "before" / str(seed), seed)]
    for generation in range(1, GENERATIONS + 1):
        models = next_of(arm, seed, generation, models, rows, work)
        folder = work / arm.replace(" ", "-") / f"{seed}-{generation}" / "test"
        told.append(measured(models[MEASURED], rows, folder, seed))
    return told


def words_found(texts: Sequence[str], rows: Rows) -> dict[str, NDArray[np.float64]]:
    """Of each answer `[items, 2]`: rare words of the reference that it has, and all; words that no
    human row of the language has, and all.
    """
    rare, new = np.zeros((len(texts), 2)), np.zeros((len(texts), 2))
    for at, (row, text) in enumerate(zip(rows.test, texts, strict=True)):
        counts, known = rows.words[row["lang"]], rows.known[row["lang"]]
        wanted = {word for word in words_of(row["translation"]) if counts[word] <= RARE}
        found = words_of(text)
        rare[at] = 100 * len(wanted & set(found)), len(wanted)
        new[at] = 100 * sum(word not in known for word in found), len(found)
    return {"rare words found, %": rare, "words of no human, %": new}


def kinds(texts: Sequence[str], rows: Rows) -> int:
    """Different words of the tail's answers, by language."""
    pairs = zip(rows.test, texts, strict=True)
    return len({(r["lang"], w) for r, t in pairs if r["lang"] in rows.tail for w in words_of(t)})


def results_of(arm: str, chains: Sequence[list[dict[str, list[str]]]], rows: Rows) -> list[Any]:
    """Figures of each generation over all seeds, beside those of the first."""
    truths = [row["translation"] for row in rows.test]
    tail = np.array([row["lang"] in rows.tail for row in rows.test])
    sources = np.array([row["english"] for row in rows.test], dtype=object)
    told, first = [], dict[str, Any]()
    for generation in range(GENERATIONS + 1):
        greedy = [one[generation]["greedy"] for one in chains]
        drawn = [one[generation]["drawn"] for one in chains]
        statistics = {"chrf": chrf_of(greedy, truths)}
        each = [words_found(texts, rows) for texts in drawn]
        statistics |= {name: np.stack([one[name] for one in each]) for name in each[0]}
        first = first or statistics
        figures: dict[str, Any] = {"generation": generation}
        for part, among in (("all", np.ones(len(tail), bool)), ("tail", tail)):
            draws = Resamples(int(among.sum()), RESAMPLES, 0, sources[among])
            figures[part] = {
                name: above(
                    one[:, among], first[name][:, among], draws,
                    *(() if name == "chrf" else (Share(),)),
                )
                for name, one in statistics.items()
            }  # fmt: skip
        figures["different words of the tail, by seed"] = [kinds(texts, rows) for texts in drawn]
        told.append(figures)
    return told


def distinct_of(
    arm: str, chains: Sequence[list[dict[str, list[str]]]], rows: Rows, work: Path
) -> Any:
    """Profiles of the drawn answers, of all seeds together, beside those of the first generation."""
    paths = []
    for generation in range(GENERATIONS + 1):
        several = [
            (row, text)
            for one in chains
            for row, text in zip(rows.test, one[generation]["drawn"], strict=True)
        ]
        table = {
            "id": [row["id"] for row, _ in several],
            "lang": [row["lang"] for row, _ in several],
            "source": [row["english"] for row, _ in several],
            "text": [text for _, text in several],
        }
        path = work / "texts" / f"{arm} {generation}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        paths.append(records.write(pa.table(table), path))
    columns = TextColumns(column="text", lang="lang", cluster="source", id="id")
    told = json.dumps(told_of(profile(paths, columns, resamples=RESAMPLES)))
    return json.loads(told.replace(f"{work}/texts/", "").replace(".parquet", ""))


def main() -> None:
    """Generation by generation, arm by arm."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("runs/collapse"))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows, chains = Rows(), dict[str, list[Any]]()
    for seed in SEEDS:  # so that an interrupted run has whole seeds
        for arm in given.arms:
            chains.setdefault(arm, []).append(chain(arm, seed, rows, given.work))
            print(f"{arm}, seed {seed}", flush=True)
    members = {
        name: answers_of(name, prompts_of(rows.test), given.work / "before" / f"{name}.json")
        for name in POOL
    }
    truths = [row["translation"] for row in rows.test]
    draws = Resamples(len(rows.test), RESAMPLES, 0, [row["english"] for row in rows.test])
    own = chrf_of([members[MEASURED]], truths)[0]
    result = {
        "experiment": "collapse",
        **where_and_with_what(SEEDS),
        "items": len(rows.test), "sources": draws.units, "tail": rows.tail,
        "rows a generation": A_LANGUAGE * len(rows.langs),
        "tokens": HOW.tokens, "rate": HOW.rate,
        "members before": {
            name: above(chrf_of([texts], truths)[0], own, draws)
            for name, texts in members.items()
        },
        "arms": {
            arm: {
                "generations": results_of(arm, several, rows),
                "profile": distinct_of(arm, several, rows, given.work),
            }
            for arm, several in chains.items()
        },
    }  # fmt: skip
    if given.out is not None:
        write_json(given.out, result)
    else:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
