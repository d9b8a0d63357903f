"""Which reward orders the answers of teachers as a human's translation does.

    python experiments/arbitrage/candidates.py --parts valid
    python experiments/arbitrage/rewards.py [--candidates FILE] [--store FILE] [--out FILE]

Rows are the validation items of ten languages, answers those of `candidates.py`. For each reward:
Kendall's τ within rows (pairs of answers that differ in sentence chrF; a reward that says nothing
of a pair counts as neither), and the chrF of the answers that it keeps beside a random answer, the
best single teacher of the language, and the best answer of each row. Intervals are over clusters of
the English source. Length ratios are learned from human pairs of the training split.

With --programs FILE, the store that `pivots.py` made, also the programs alone on rows of the training
split, which they never saw: nn from three sisters and mk from two. What learned from those rows is
left out there, the likelihoods.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pyarrow.parquet as pq
import torch
from pivots import PIVOTS, teacher_of

from pomona import records
from pomona.errors import PomonaError
from pomona.stats import Resamples, Share, compare, interval
from pomona.synth.rewards import (
    Agreement,
    Computed,
    LanguageMatch,
    LengthRatio,
    Likelihood,
    PlaceholdersKept,
    Record,
    RoundTrip,
    Weighted,
    by_row as rows_of,
    key_of,
)
from pomona.synth.teachers import Assignment, Candidate, Lesson, PivotTeacher, find_cells
from pomona.tasks import Chrf, pairwise

ROOT = Path(__file__).parents[2]
PIVOTED = ("af", "be", "mk", "nn")
PROMPT = "<|{lang}|>{text}<|to|>"
# lang, the sister to translate back to, mode, package
BACK = (
    ("af", "nl", "afr-nld", "apertium-afr-nld"),
    ("be", "ru", "bel-rus", "apertium-bel-rus"),
    ("mk", "hr", "mkd-hbs_HR", "apertium-hbs-mkd"),
    ("nn", "sv", "nno-swe", "apertium-swe-nor"),
)
CHRF, CHRF1 = Chrf(), Chrf(beta=1)  # of the same statistics
MIXTURES = {
    "likelihood + length": ("likelihood ui-s", "length_ratio"),
    "agreement + likelihood": ("agreement", "likelihood ui-s"),
    "agreement + against": ("agreement", "likelihood ui-s, against"),
    "agreement + length": ("agreement", "length_ratio"),
    "agreement + round trip": ("agreement", "round_trip"),
    "record + agreement": ("record", "agreement"),
    "record + length": ("record", "length_ratio"),
    "record + agreement + length": ("record", "agreement", "length_ratio"),
    "record + likelihood + length": ("record", "likelihood ui-s", "length_ratio"),
    "all": ("agreement", "likelihood ui-s, against", "length_ratio", "language", "placeholders"),
}
Scores = dict[str, np.ndarray]


@dataclass(frozen=True)
class Known(Computed):
    """What a reward said of candidates, to be mixed with others."""

    name: str
    of: dict[Any, float]

    @property
    def signature(self) -> str:
        """See `Reward`."""
        return self.name

    def score(self, candidates: Sequence[Candidate]) -> np.ndarray:
        """See `Reward`."""
        return np.array([self.of[key_of(one)] for one in candidates])


def read(path: Path, part: str) -> list[Candidate]:
    """The candidates of a part, but of rows with one answer."""
    rows = [row for row in pq.read_table(path).to_pylist() if row["part"] == part]
    return [
        Candidate(
            Assignment(row["id"], row["text"], "en", row["lang"], row["reference"], row["cluster"]),
            Lesson(row["id"], row["answer"], row["teacher"], None, sample=row["sample"]),
        )
        for row in rows
        if not row["sample"]
    ]


def humans(table: list[dict[str, str]]) -> list[Candidate]:
    """Pairs of the training split."""
    nobody = Lesson("", "", "", None)
    return [
        Candidate(Assignment(r["id"], r["english"], "en", r["lang"], r["translation"]), nobody)
        for r in table
        if r["split"] == "train"
    ]


def one_way(candidates: list[Candidate]) -> np.ndarray:
    """Agreement by chrF with the answer as the candidate alone, which weighs recall."""
    scores = np.full(len(candidates), np.nan)
    for places in rows_of(candidates):
        if len(places) > 1:
            texts = [candidates[at].lesson.text for at in places]
            like = pairwise(texts, texts)
            scores[places] = (like.sum(1) - np.diag(like)) / (len(places) - 1)
    return scores


def back(table: Any, candidates: list[Candidate], store: Path) -> np.ndarray:
    """Round trips to sister languages, whose human translations stand for the English."""
    scores = np.full(len(candidates), np.nan)
    for lang, sister, mode, package in BACK:
        teacher = teacher_of(lang, sister, mode, package, store)
        if teacher.program.missing is not None:
            print(f"{mode} is left out: {teacher.program.missing}", flush=True)
            continue
        cells = find_cells(table, lang, sister)
        texts = dict(cells.empty) | {said: hers for said, (hers, _) in cells.known.items()}
        own = [at for at, one in enumerate(candidates) if one.row.lang == lang]
        reward = RoundTrip(teacher, lang=sister, texts=texts)
        scores[own] = reward.score([candidates[at] for at in own])
        known = int((~np.isnan(scores[own])).sum())
        print(f"back to {sister}: {known} of {len(own)}, {len(reward.failures)} failed", flush=True)
    return scores


def programs(store: Path) -> list[Candidate]:
    """What the pivots' programs wrote to rows of the training split."""
    table = records.read(ROOT / "src/pomona/assets/ui/ui.parquet").to_table()
    made: list[Candidate] = []
    for lang, sister, mode, package in PIVOTS:
        if lang not in {"mk", "nn"}:
            continue
        inner = teacher_of(sister, lang, mode, package, store)
        cells = find_cells(table, lang, sister)
        rows = [
            Assignment(f"{lang} {said}", said, "en", lang, own, said)
            for said, (_, own) in cells.known.items()
        ]
        pivot = PivotTeacher(inner, sister, {said: hers for said, (hers, _) in cells.known.items()})
        pairs = zip(rows, pivot.teach(rows).rows, strict=True)
        made += [Candidate(row, one) for row, one in pairs if isinstance(one, Lesson)]
    split = {row["english"]: row["split"] for row in table.to_pylist()}
    return [one for one in made if split[one.row.text] == "train"]


def rewards(given: Any, candidates: list[Candidate], *, models: bool = True) -> Scores:
    """The numbers of every reward; without those of models and round trips where it says so."""
    table = records.read(ROOT / "src/pomona/assets/ui/ui.parquet").to_table()
    ratio = LengthRatio().fit(humans(table.to_pylist()))
    likely = (
        {}
        if not models
        else {
            f"likelihood {name}{', against' if against else ''}": Likelihood(
                name, PROMPT, against=against, store=given.store, raw=True
            )
            for name in ("ui-xs", "ui-s")
            for against in (None, "<|{lang}|><|to|>")
        }
    )
    told: Scores = {
        "characters": np.array([float(len(one.lesson.text)) for one in candidates]),
        "fewer characters": np.array([-float(len(one.lesson.text)) for one in candidates]),
        "language": LanguageMatch().score(candidates),
        "placeholders": PlaceholdersKept().score(candidates),
        "length_ratio": ratio.score(candidates),
        "agreement with all teachers": Agreement().score(candidates),
    }
    for name, reward in likely.items():
        told[name] = reward.score(candidates)
        print(name, reward.usage, flush=True)
    if models:
        told["round_trip"] = back(table, candidates, given.store.parent / "programs.db")
    return told


@dataclass(frozen=True)
class Part:
    """Some of the candidates, whole rows of two answers or more."""

    candidates: list[Candidate]
    places: np.ndarray

    @property
    def rows(self) -> list[list[int]]:
        """Places in the part by row."""
        return rows_of(self.candidates)


def part_of(candidates: list[Candidate], keep: Callable[[Candidate], bool]) -> Part:
    """The part of these, without rows that have one answer."""
    kept = [at for at, one in enumerate(candidates) if keep(one)]
    rows = [row for row in rows_of([candidates[at] for at in kept]) if len(row) > 1]
    places = np.array([kept[at] for row in rows for at in row], np.intp)
    return Part([candidates[at] for at in places], places)


def crossed(every: list[Candidate]) -> np.ndarray:
    """The record of each teacher on the half of the sources that an answer is not of."""
    half = np.array([crc32(str(one.row.cluster).encode()) % 2 for one in every])
    scores = np.full(len(every), np.nan)
    for mine in (0, 1):
        told = [one for one, of in zip(every, half, strict=True) if of != mine]
        asked = [one for one, of in zip(every, half, strict=True) if of == mine]
        scores[half == mine] = Record().fit(told).score(asked)
    return scores


def mixed(part: Part, told: Scores) -> Scores:
    """The rewards of the part's answers, with agreement among these alone, and mixtures."""
    every = part.candidates
    own = {name: scores[part.places] for name, scores in told.items()}
    own |= {"agreement": Agreement().score(every), "agreement, one way": one_way(every)}
    own["record"] = crossed(every)
    keys = [key_of(one) for one in every]
    for name, names in MIXTURES.items():
        names = [one for one in names if one in own]
        known = [Known(one, dict(zip(keys, own[one], strict=True))) for one in names]
        for scale in ("rank", "deviation"):
            usable = [one for one in known if len({*one.of.values()} - {0.0}) > 1]
            if not usable:
                continue
            try:
                reward = Weighted([(one, 1.0) for one in usable], scale).fit(every)
            except PomonaError:  # two answers agree equally
                continue
            own[f"{name}, by {scale}"] = reward.score(every)
    return own


def measure(part: Part, told: Scores) -> dict[str, Any]:
    """τ and the chrF of kept answers for each reward, and the controls."""
    rows, every = part.rows, part.candidates
    told = mixed(part, told)
    statistics = CHRF.statistics(
        [one.lesson.text for one in every], [one.row.reference or "" for one in every]
    )
    chrf = CHRF.aggregate(statistics)
    draws = Resamples(len(rows), 2000, 0, clusters=[every[row[0]].row.cluster for row in rows])

    def kept(scores: np.ndarray) -> np.ndarray:
        """Statistics of what is kept, ties and unknown rows shared."""
        taken = []
        for row in rows:
            values = scores[row]
            best = np.flatnonzero(values == values.max()) if not np.isnan(values).any() else ...
            taken.append(statistics[row][best].mean(0))
        return np.array(taken)

    def tau(scores: np.ndarray) -> np.ndarray:
        """Of each row pairs in order less those out of order, and pairs."""
        told = []
        for row in rows:
            signs = [
                np.sign(chrf[a] - chrf[b]) * np.nan_to_num(np.sign(scores[a] - scores[b]))
                for a, b in itertools.combinations(row, 2)
                if chrf[a] != chrf[b]
            ]
            told.append((sum(signs), len(signs)))
        return np.array(told, np.float64)

    random = kept(np.zeros(len(every)))
    singles: dict[str, list[str]] = {}  # teachers of a language, the best first
    for lang in dict.fromkeys(one.row.lang for one in every):
        own: dict[str, list[int]] = {}
        for at, one in enumerate(every):
            if one.row.lang == lang:
                own.setdefault(one.lesson.teacher, []).append(at)
        value = {name: float(CHRF.aggregate(statistics[at].sum(0))) for name, at in own.items()}
        singles[lang] = sorted(value, key=value.__getitem__, reverse=True)
    # Where the best has no answer the next best stands in.
    place = [-float(singles[one.row.lang].index(one.lesson.teacher)) for one in every]
    single = kept(np.array(place))

    def figures(name: str, taken: np.ndarray, scores: np.ndarray | None) -> dict[str, Any]:
        value = float(CHRF.aggregate(taken.sum(0)))
        told: dict[str, Any] = {"chrf": value, "chrf1": float(CHRF1.aggregate(taken.sum(0)))}
        for other, base in (("random", random), ("single", single)):
            if name != other:
                diff = compare(CHRF, taken, base, draws)
                told[f"above {other}"] = [diff.delta, diff.ci_low, diff.ci_high]
        if scores is not None:
            pairs = tau(scores)
            told["tau"] = [float(pairs[:, 0].sum() / pairs[:, 1].sum())]
            told["tau"] += list(interval(Share(), pairs, draws))
            told["known"] = float(np.mean([not np.isnan(scores[row]).any() for row in rows]))
        return told

    result: dict[str, Any] = {
        "rows": len(rows), "answers": len(every), "sources": draws.units, "single": {lang: names[0] for lang, names in singles.items()},
    }  # fmt: skip
    result["rewards"] = {
        "random": figures("random", random, None),
        "single": figures("single", single, None),
        "oracle": figures("oracle", kept(chrf), None),
    }
    for name, own in told.items():
        if not np.isnan(own).all():
            result["rewards"][name] = figures(name, kept(own), own)
    return result


def show(name: str, told: dict[str, Any]) -> None:
    """A part as a table."""
    print(f"\n{name}: {told['rows']} rows, {told['answers']} answers, {told['single']}")
    for reward, one in told["rewards"].items():
        line = f"  {reward:42} {one['chrf']:5.1f} {one['chrf1']:5.1f}"
        for other in ("above random", "above single"):
            if other in one:
                line += " {:+6.2f} [{:+.2f}, {:+.2f}]".format(*one[other])
        if "tau" in one:
            line += "  tau {:+.2f} [{:+.2f}, {:+.2f}]".format(*one["tau"])
            line += f" known {one['known']:.0%}"
        print(line, flush=True)


def main() -> None:
    """Score, measure, print or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--candidates", type=Path, default=ROOT / "runs/arbitrage/candidates.parquet"
    )
    parser.add_argument("--store", type=Path)
    parser.add_argument("--programs", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    candidates = read(given.candidates, "valid")
    with tempfile.TemporaryDirectory() as folder:
        given.store = given.store or Path(folder) / "rewards.db"
        told = rewards(given, candidates)
    models = {"ui-m", "ui-l"}

    def pivot(one: Candidate) -> bool:
        return one.row.lang in PIVOTED

    parts: dict[str, Callable[[Candidate], bool]] = {
        "two models, ten languages": lambda one: one.lesson.teacher in models,
        "two models, pivot languages": lambda one: pivot(one) and one.lesson.teacher in models,
        "ui-l and a pivot": lambda one: (
            pivot(one)
            and (one.lesson.teacher == "ui-l" or one.lesson.teacher.startswith("apertium"))
        ),
        "pivots alone": lambda one: pivot(one) and one.lesson.teacher.startswith("apertium"),
        "all teachers, pivot languages": pivot,
        "all teachers, other languages": lambda one: not pivot(one),
    }
    for lang in dict.fromkeys(one.row.lang for one in candidates):
        parts[f"two models, {lang}"] = lambda one, lang=lang: (
            one.row.lang == lang and one.lesson.teacher in models
        )
        parts[f"all teachers, {lang}"] = lambda one, lang=lang: one.row.lang == lang
    result = {}
    for name, keep in parts.items():
        part = part_of(candidates, keep)
        result[name] = measure(part, told)
        show(name, result[name])
    if given.programs is not None:
        candidates = programs(given.programs)
        told = rewards(given, candidates, models=False)
        for lang in ("mk", "nn"):
            part = part_of(candidates, lambda one, lang=lang: one.row.lang == lang)
            result[f"pivots alone, {lang}, training rows"] = measure(part, told)
            show(f"pivots alone, {lang}, training rows", measure(part, told))
    if given.out is not None:
        text = json.dumps(result, indent=1, ensure_ascii=False)
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
