"""What a student inherits when its teacher's answers are chosen by length or lexical diversity.

    python experiments/inheritance/students.py [--task strings|pages] [--work runs/inheritance]
        [--out FILE]

`ui-m` answers rows of the training split (and of Sphinx' rows that no split uses) several times,
once greedily. Of each row one answer is kept, by length or MTLD, up and down, or at random, which
is the control; of strings also by MTLD among the answers whose length is that of the row's median
within a tenth. `ui-s` is trained on each kept set for as many tokens, with three seeds, and answers
rows of the test split, greedily and by a draw at the temperature of the teacher's. Profiles are of
all seeds together, paired by row and drawn by English source; chrF is paired in the same way, crossed with seeds.

strings  English strings of 8 to 40 words, in twelve languages. The rate is chosen on validation
         rows: the highest at which the control loses less than half a point of chrF, the lowest
         where there is none
pages    strings of a split one after the other, to 40 words or more, in six languages: MTLD of what
         is shorter says little but how long it is. Held out are the pages of validation and test
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pomona import records
from pomona.files import write_json
from pomona.stats import Resamples
from pomona.synth import (
    Assignment,
    Candidate,
    Chosen,
    Lesson,
    ModelTeacher,
    Objective,
    Terms,
    TextColumns,
    choose,
)
from pomona.synth.profile import TextFigures, profile
from pomona.text import words_of

sys.path.append(str(Path(__file__).parents[1]))
from _students import (
    CHRF,
    PROMPT,
    RESAMPLES,
    Training,
    above,
    answers_of,
    chrf_of,
    kept,
    told_of,
    train,
    where_and_with_what,
)

SEEDS, DRAWN = (0, 1, 2), 0.8
LOST = 0.5  # points of chrF that the control may lose on validation
UP, DOWN = Objective("length", "up"), Objective("length", "down")
MORE, LESS = Objective("mtld", "up"), Objective("mtld", "down")
Sets = dict[str, list[Objective]]
Row = dict[str, str]


@dataclass(frozen=True)
class Task:
    """What is answered, how often, and what is learnt of it."""

    langs: list[str]
    words: tuple[int, int]  # of an English string
    page: int  # words of English that strings are joined to; 0: they are not
    train: int  # rows a language
    test: int
    draws: int
    most: int  # tokens of an answer
    tokens: int
    rates: tuple[float, ...]
    held_out: tuple[str, ...]
    sets: Sets


SIX = ["fr", "de", "es", "it", "nl", "sv"]
BOTH: Sets = {"random": [], "mtld up": [MORE], "mtld down": [LESS]}
ALL: Sets = {
    "random": [],
    "length up": [UP],
    "length down": [DOWN],
    "mtld up": [MORE],
    "mtld down": [LESS],
    "mtld up, length held": [MORE],
    "mtld down, length held": [LESS],
}
TASKS = {
    "strings": Task(
        [*SIX, "pl", "ru", "af", "be", "mk", "nn"],
        (8, 40),
        0,
        100,
        30,
        6,
        96,
        60_000,
        (3e-4, 1e-3),
        ("test",),
        ALL,
    ),
    "pages": Task(SIX, (4, 25), 40, 40, 99, 3, 160, 30_000, (1e-3,), ("valid", "test"), BOTH),
}


def rows_of(task: Task, *splits: str, each: int) -> list[Row]:
    """Rows of these splits, of each language so many, drawn by a seed."""
    every: list[Row] = records.read("ui").where(lang=task.langs).to_table().to_pylist()
    least, most = task.words
    every = [
        row
        for row in every
        if row["split"] in splits and least <= len(words_of(row["english"])) <= most
    ]
    if task.page:
        return pages_of(task, every)[: each * len(task.langs)]
    told: list[Row] = []
    for lang in task.langs:
        mine = [row for row in every if row["lang"] == lang]
        order = np.random.default_rng(0).permutation(len(mine))[:each]
        told += [mine[at] | {"id": f"{lang} {mine[at]['id']}"} for at in sorted(order)]
    return told


def pages_of(task: Task, rows: Sequence[Row]) -> list[Row]:
    """Strings that all languages have, joined in an order drawn by a seed, the same in each."""
    by_lang: dict[str, Row] = {lang: {} for lang in task.langs}
    for row in rows:
        by_lang[row["lang"]][row["english"]] = row["translation"]
    shared = sorted(set.intersection(*map(set, by_lang.values())))
    told, page, words = [], list[str](), 0
    for at in np.random.default_rng(0).permutation(len(shared)):
        page.append(shared[at])
        words += len(words_of(shared[at]))
        if words < task.page:
            continue
        english = " ".join(page)
        told += [
            {
                "id": f"{lang} {english}",
                "lang": lang,
                "english": english,
                "translation": " ".join(own[one] for one in page),
            }
            for lang, own in by_lang.items()
        ]
        page, words = [], 0
    return told


def prompts_of(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """What models of `ui` read."""
    return [PROMPT.format(lang=row["lang"], text=row["english"]) for row in rows]


def candidates_of(task: Task, rows: Sequence[Row], work: Path) -> list[Candidate]:
    """The teacher's answers, from its store where it has written them before."""
    asked = [
        Assignment(row["id"], row["english"], "en", row["lang"], row["translation"])
        for row in rows
    ]  # fmt: skip
    terms = Terms(licence="Apache-2.0", concurrency=128)
    teacher = ModelTeacher(
        "ui-m",
        PROMPT,
        work / "answers.db",
        terms,
        raw=True,
        max_tokens=task.most,
        temperature=DRAWN,
    )

    def draw() -> list[dict[str, Any]]:
        told = []
        for sample in range(task.draws):
            lessons = teacher.teach(asked, sample)
            told += [asdict(lesson) for lesson in lessons.taught]
            print(f"draw {sample}: {len(lessons.taught)} answers, {lessons.usage}", flush=True)
        return told

    by_id = {row.id: row for row in asked}
    return [Candidate(by_id[one["id"]], Lesson(**one)) for one in kept(work / "lessons.json", draw)]


def held(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The answers within a tenth of the median length of their row."""
    lengths: dict[str, list[int]] = {}
    for one in candidates:
        lengths.setdefault(one.row.id, []).append(len(one.lesson.text))
    middle = {name: np.median(several) for name, several in lengths.items()}
    return [
        one for one in candidates
        if abs(len(one.lesson.text) - middle[one.row.id]) <= 0.1 * middle[one.row.id]
    ]  # fmt: skip


def chosen_of(task: Task, name: str, candidates: Sequence[Candidate], seed: int) -> list[Chosen]:
    """The set that a student learns from. Rows are those of all sets: with a median answer."""
    among = held(candidates)
    rows = {one.row.id for one in among}
    told = among if "held" in name else [one for one in candidates if one.row.id in rows]
    return choose(told, task.sets[name], seed=seed)


def student(
    task: Task, name: str, candidates: Sequence[Candidate], work: Path, rate: float, seed: int
) -> Path:
    """The checkpoint of a student of a set."""
    out = work / "students" / f"{name.replace(', ', '-').replace(' ', '-')}-{rate:g}-{seed}"
    if out.exists():
        return out
    chosen = [one.candidate for one in chosen_of(task, name, candidates, seed)]
    prompts = [PROMPT.format(lang=one.row.lang, text=one.row.text) for one in chosen]
    answers = [one.lesson.text for one in chosen]
    return train("ui-s", prompts, answers, out, Training(task.tokens, rate), seed)


def chosen_rate(task: Task, candidates: Sequence[Candidate], work: Path) -> tuple[float, list[Any]]:
    """The highest rate at which the control keeps its chrF on validation, and what each gives."""
    if len(task.rates) == 1:
        return task.rates[0], []
    rows = rows_of(task, "valid", each=task.test)
    truths = [row["translation"] for row in rows]

    def told(model: str | Path, name: str) -> tuple[float, float]:
        texts = answers_of(model, prompts_of(rows), work / "valid" / f"{name}.json", most=task.most)
        value = CHRF.aggregate(CHRF.statistics(texts, truths).sum(0))
        return round(float(value), 2), round(float(np.mean([len(text) for text in texts])), 2)

    before = told("ui-s", "before")
    tried: list[Any] = [{"rate": 0, "chrf": before[0], "length": before[1]}]
    best = task.rates[0]
    for rate in task.rates:
        each: dict[str, Any] = {"rate": rate}
        for name in [*task.sets][:2]:
            model = student(task, name, candidates, work, rate, 0)
            each[name] = dict(zip(("chrf", "length"), told(model, model.name), strict=True))
        tried.append(each)
        print(each, flush=True)
        if each["random"]["chrf"] >= before[0] - LOST:
            best = rate
    return best, tried


def table_of(rows: Sequence[Row], replicates: Sequence[Sequence[str]]) -> pa.Table:
    """Answers of all seeds as a table for `profile`."""
    several = [(row, text) for texts in replicates for row, text in zip(rows, texts, strict=True)]
    return pa.table(
        {
            "id": [row["id"] for row, _ in several],
            "lang": [row["lang"] for row, _ in several],
            "source": [row["english"] for row, _ in several],
            "text": [text for _, text in several],
        }
    )


def profiled(sides: Mapping[str, pa.Table], folder: Path) -> dict[str, Any]:
    """Profiles of tables, the first beside each other one."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, table in sides.items():
        paths.append(folder / f"{name}.parquet")
        records.write(table, paths[-1])
    columns = TextColumns(column="text", lang="lang", cluster="source", id="id")
    told = json.dumps(told_of(profile(paths, columns, resamples=RESAMPLES)))
    return json.loads(told.replace(f"{folder}/", "").replace(".parquet", ""))


def by_seed(replicates: Sequence[Sequence[str]], rows: Sequence[Row]) -> dict[str, Any]:
    """Mean length and MTLD of each seed's answers."""
    told: dict[str, list[float]] = {"length": [], "mtld": []}
    for texts in replicates:
        figures = TextFigures()
        for row, text in zip(rows, texts, strict=True):
            figures.add(text, row["lang"])
        for name, values in told.items():
            values.append(round(float(np.nanmean(figures.values[name])), 3))
    return told


def of_the_sets(task: Task, candidates: Sequence[Candidate], work: Path) -> dict[str, Any]:
    """Profiles of what the students learn from: of the control and each other set."""
    sides, shares = {}, {}
    for name in task.sets:
        chosen = [one.candidate for one in chosen_of(task, name, candidates, 0)]
        rows = [{"id": one.row.id, "lang": one.row.lang, "english": one.row.text} for one in chosen]
        sides[name] = table_of(rows, [[one.lesson.text for one in chosen]])
        truths = [one.row.reference or "" for one in chosen]
        statistics = CHRF.statistics([one.lesson.text for one in chosen], truths)
        shares[name] = round(float(CHRF.aggregate(statistics.sum(0))), 2)
    return {"chrf": shares, "profile": profiled(sides, work / "sets")}


def of_the_students(
    task: Task, candidates: Sequence[Candidate], work: Path, rate: float
) -> dict[str, Any]:
    """Profiles and chrF of the students' answers to the held-out rows, greedy and drawn, before and
    after.
    """
    rows = rows_of(task, *task.held_out, each=task.test)
    models: dict[str, list[str | Path]] = {"before": ["ui-s"] * len(SEEDS)}
    for name in task.sets:
        models[name] = [student(task, name, candidates, work, rate, seed) for seed in SEEDS]
    told: dict[str, Any] = {"human": by_seed([[row["translation"] for row in rows]], rows)}
    for how, temperature in (("greedy", 0.0), ("drawn", DRAWN)):
        texts = {
            name: [
                answers_of(
                    model,
                    prompts_of(rows),
                    work / how / f"{Path(model).name}-{seed}.json",
                    temperature=temperature,
                    seed=seed,
                    most=task.most,
                )
                for seed, model in zip(SEEDS, several, strict=True)
            ]
            for name, several in models.items()
        }
        told[how] = compared(rows, texts, work / "texts")
    return told


def compared(
    rows: Sequence[Row], texts: Mapping[str, Sequence[Sequence[str]]], folder: Path
) -> dict[str, Any]:
    """The students' answers, a list a seed, beside those of the model before and of the control."""
    truths = [row["translation"] for row in rows]
    tables = {name: table_of(rows, several) for name, several in texts.items()}
    statistics = {name: chrf_of(several, truths) for name, several in texts.items()}
    draws = Resamples(len(rows), RESAMPLES, 0, [row["english"] for row in rows])
    return {
        "items": len(rows),
        "sources": draws.units,
        "before and after": profiled(tables, folder),
        "beside the control": profiled(
            {name: table for name, table in tables.items() if name != "before"}, folder
        ),
        "chrf": {
            name: {
                "above before": above(one, statistics["before"], draws),
                "above the control": above(one, statistics["random"], draws),
            }
            for name, one in statistics.items()
            if name != "before"
        },
        "by seed": {name: by_seed(several, rows) for name, several in texts.items()},
    }


def main() -> None:
    """Draw, choose, train, profile."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path("runs/inheritance"))
    parser.add_argument("--task", choices=list(TASKS), default="strings")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    task, work = TASKS[given.task], given.work / given.task
    work.mkdir(parents=True, exist_ok=True)
    rows = rows_of(task, "train", "unused", each=task.train)
    candidates = candidates_of(task, rows, work)
    rate, tried = chosen_rate(task, candidates, work)
    result = {
        "experiment": f"inheritance, {given.task}",
        **where_and_with_what(SEEDS),
        "teacher": f"ui-m, {task.draws} draws, greedy and at 0.8", "student": "ui-s",
        "rows": len(rows), "tokens": task.tokens, "rate": rate, "rates on validation": tried,
        "sets": kept(work / "sets.json", lambda: of_the_sets(task, candidates, work)),
        "students": of_the_students(task, candidates, work, rate),
    }  # fmt: skip
    if given.out is not None:
        write_json(given.out, result)
    else:
        print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
