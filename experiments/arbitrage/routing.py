"""Who should be asked? Fixed, learned and reward routing between real teachers, beside one teacher,
a lot, and all of them.

    python experiments/arbitrage/experts.py
    python experiments/arbitrage/candidates.py --samples 5 --parts test valid
    python experiments/arbitrage/candidates.py
    python experiments/arbitrage/routing.py [--candidates FILE] [--out FILE]

`fixed` and `learned` are made from answers to the validation split, by two rewards: TER against the
human translation, at most 100 (`reference`), and one that sees none (`free`: agreement between
teachers, log-likelihood under ui-s, placeholders, length ratio; ranks within a row). `reward` asks
all teachers and keeps the best by `free`. The judge is chrF on the test split, which is neither; BLEU
and exact match are beside it. No source is in two splits.

`near` tells routers and tables one thing more: how similar the nearest source of training is in the
row's language, in four bands. A memory knows that before it is asked, the prompt does not.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pomona import records
from pomona.memory import find
from pomona.synth.rewards import (
    Agreement,
    LengthRatio,
    Likelihood,
    PlaceholdersKept,
    Reference,
    Weighted,
)
from pomona.synth.routing import (
    EVERY,
    Every,
    Form,
    Group,
    Judging,
    Learned,
    Policy,
    Pool,
    Random,
    Router,
    Routes,
    Sees,
    Single,
    best_single,
    compare_policies,
    learn_router,
    measure_fixed,
    share,
)
from pomona.synth.teachers import Assignment, Candidate, Lesson

sys.path.insert(0, str(Path(__file__).parents[1]))
from _shared import ROOT
from candidates import PROMPT, SAMPLED

PIVOTED = ("af", "be", "mk", "nn")
COLD = "sphinx"
BANDS = (0.5, 0.65, 0.8)
QUICK = Form(temperatures=(0.5, 1.0), penalties=(3e-3, 1e-2), folds=3)
Floats = NDArray[np.float64]


def free(store: Path) -> Weighted:
    """The reward that sees no human translation."""
    likely = Likelihood("ui-s", PROMPT, raw=True, store=store)
    parts = [(Agreement(), 2.0), (likely, 1.0), (PlaceholdersKept(), 1.0), (LengthRatio(), 1.0)]
    return Weighted(parts, name="free")


def candidates_of(rows: Sequence[dict[str, Any]], samples: int = 1) -> list[Candidate]:
    """The table's answers as candidates: the first draws, or more of the sampled teacher."""
    told = []
    for row in rows:
        if row["sample"] >= (samples if row["teacher"] == SAMPLED else 1):
            continue
        task = Assignment(
            row["id"], row["text"], "en", row["lang"], row["reference"], row["cluster"]
        )
        lesson = Lesson(row["id"], row["answer"], row["teacher"], None, sample=row["sample"])
        told.append(Candidate(task, lesson))
    return told


class Near:
    """Rows told apart by how similar the nearest source of training is in their language."""

    def __init__(self, rows: Sequence[dict[str, Any]]) -> None:
        table = (
            records.read(ROOT / "src/pomona/assets/ui/ui.parquet").where(split="train").to_table()
        )
        pairs = list({(row["lang"], row["text"]) for row in rows})
        found = find(
            table["english"].to_pylist(), table["lang"].to_pylist(),
            [text for _, text in pairs], [lang for lang, _ in pairs], 1,
        )  # fmt: skip
        self.of = {
            pair: str(int(np.digitize(like, BANDS)))
            for pair, like in zip(pairs, found.nearest, strict=True)
        }

    def band(self, row: Assignment) -> str:
        """The row's language and band."""
        return f"{row.lang} {self.of[row.lang, row.text]}"


class Measured:
    """Policies made from validation answers, by a reward."""

    def __init__(self, pool: Pool, rewards: Floats, costs: dict[str, float], near: Near) -> None:
        self.pool, self.rewards, self.costs, self.near = pool, rewards, costs, near
        self.fixed = measure_fixed(pool, rewards)
        self.routers: dict[str, Router] = {}

    def policies(self, reward: str) -> list[Policy]:
        """The table, and routers that see more or less."""
        learned = f"learned, {reward}"
        whole = self.learned(reward, tolerance=0.5 if reward == "reference" else 0.002)
        band = self.near.band
        table = measure_fixed(self.pool, self.rewards, band)
        told: list[Policy] = [
            replace(self.fixed, name=f"fixed, {reward}"),
            replace(table, name=f"fixed, {reward}, near"),
            Learned(replace(whole, cost_weight=0.0), learned),
            Learned(whole, f"{learned}, cheap"),
        ]
        for sees in ("language", "text"):
            router = self.learned(f"{reward}, {sees}", sees)
            told.append(Learned(router, f"{learned}, {sees} alone"))
        router = self.learned(f"{reward}, near", by=band)
        return [*told, Learned(router, f"{learned}, near", band)]

    def learned(
        self, name: str, sees: Sees = "both", tolerance: float = 0.0, by: Group | None = None
    ) -> Router:
        """A router, whose cost term is 0 but where a tolerance is given."""
        start = time.process_time()
        form = replace(QUICK, sees=sees, tolerance=tolerance)
        costs = self.costs if tolerance else None
        router = learn_router(self.pool, self.rewards, costs=costs, form=form, by=by)
        self.routers[name], told = router, router.learned
        print(
            f"router {name}: {told['rows']:,} rows, T {told['temperature']:.3g}, penalty "
            f"{told['penalty']:g}, unseen {told['unseen']:.4f}, table {told['fixed']:.4f}, costs × "
            f"{router.cost_weight:.3g}, {time.process_time() - start:.1f} CPU s",
            flush=True,
        )
        return router


def policies_of(pool: Pool, by: dict[str, Measured]) -> list[Policy]:
    """All that is compared."""
    names = pool.teachers
    singles = [Single(name) for name in names if " from " not in name and "expert" not in name]
    told: list[Policy] = [*singles, Single(SAMPLED, 5), Random(names)]
    told += [Every(names), Every(names, "all")]
    for reward, one in by.items():
        told += one.policies(reward)
    return told


def parts_of(pool: Pool, domains: dict[str, str]) -> dict[str, NDArray[np.bool_]]:
    """Warm and cold rows, of the four pivot languages and of the others."""
    cold = np.array([domains[row.id] == COLD for row in pool.rows])
    pivoted = np.array([row.lang in PIVOTED for row in pool.rows])
    return {
        "warm": ~cold,
        "cold": cold,
        "pivot languages": pivoted,
        "pivot languages, warm": pivoted & ~cold,
        "other languages, warm": ~pivoted & ~cold,
        "other languages, cold": ~pivoted & cold,
    }


def costs_of(pool: Pool, rows: Sequence[dict[str, Any]]) -> dict[str, Floats]:
    """What each candidate cost; programs and the memory write no tokens of a model."""
    of = {(row["id"], row["teacher"], row["sample"]): row for row in rows}
    keys = [(one.row.id, one.lesson.teacher, one.lesson.sample) for one in pool.candidates]
    return {
        name: np.array([float(of[key][name] or 0) for key in keys])
        for name in ("tokens", "cpu_seconds", "flops")
    }


def bought(
    table: Sequence[dict[str, Any]], policies: Sequence[Policy], budget: int
) -> dict[str, int]:
    """How many empty cells of the four languages each policy fills for so many generations."""
    own = [row for row in table if row["part"] == "empty" and row["lang"] in PIVOTED]
    if not own:
        return {}
    there = {(row["teacher"], row["id"]) for row in own}
    rows = list({c.row.id: c.row for c in candidates_of(own)}.values())

    def able(name: str, row: Assignment) -> bool:
        return (name, row.id) in there

    return {one.name: len(share(rows, one, budget, able=able)) for one in policies}


def reached(router: Router, rows: Sequence[Assignment]) -> float:
    """Microseconds a prompt of choosing, the least of five times."""
    taken = []
    for _ in range(5):
        start = time.process_time()
        router.rank(rows)
        taken.append(time.process_time() - start)
    return 1e6 * min(taken) / len(rows)


def chosen(pool: Pool, policy: Policy) -> dict[str, dict[str, int]]:
    """How often each teacher's answer is kept, by language."""
    told: dict[str, dict[str, int]] = {}
    for kept in pool.route(policy, np.zeros(len(pool.candidates))).kept:
        for at in kept:
            one = pool.candidates[at]
            of = told.setdefault(one.row.lang, {})
            of[one.lesson.teacher] = of.get(one.lesson.teacher, 0) + 1
    return told


def compact(told: Any) -> Any:
    """A document with its numbers in four digits."""
    if isinstance(told, float):
        return float(f"{told:.4g}")
    if isinstance(told, dict):
        return {name: compact(value) for name, value in told.items()}
    return [compact(value) for value in told] if isinstance(told, list) else told


def show(routes: Routes, group: str) -> None:
    """A group's policies."""
    print(f"\n{group}: {routes.of(routes.standings[0].policy, group).rows:,} rows")
    for cells in routes.cells(group):
        print("  ", "  ".join(cells.values()))


def main() -> None:
    """Learn on validation answers, compare on test answers, and print or write what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--candidates", type=Path, default=ROOT / "runs/arbitrage/candidates.parquet"
    )
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    table = pq.read_table(given.candidates).to_pylist()
    domains = {row["id"]: row["domain"] for row in table}
    valid_rows = [row for row in table if row["part"] in {"valid", "more"}]
    test_rows = [row for row in table if row["part"] == "test"]
    start = time.process_time()
    valid = Pool.of(candidates_of(valid_rows))
    test = Pool.of(candidates_of(test_rows, samples=5))
    reward = free(given.candidates.parent / "likelihood.db").fit(valid.candidates)
    seen = {"reference": np.maximum(Reference("ter").score(valid.candidates), -100)}
    seen["free"] = reward.score(valid.candidates)
    print(f"rewards: {time.process_time() - start:.1f} CPU s", flush=True)
    costs = costs_of(valid, valid_rows)["cpu_seconds"]
    each = np.nanmean(valid.matrix(costs), axis=0)
    dear = dict(zip(valid.teachers, map(float, each), strict=True))
    near = Near(table)
    by = {name: Measured(valid, rewards, dear, near) for name, rewards in seen.items()}
    policies = policies_of(valid, by)
    single = best_single(valid, seen["reference"])
    print("best single teacher on validation:", single)
    rewards = reward.score(test.candidates)
    told: dict[str, Any] = {"single": single, "judges": {}}
    for judge in ("chrf", "bleu", "exact_match"):
        judging = Judging(judge, single, "fixed, reference")
        routes = compare_policies(
            test, policies, rewards, judging=judging, groups=parts_of(test, domains),
            costs=costs_of(test, test_rows),
        )  # fmt: skip
        if judge != "chrf":  # the others by language are in no text
            few = {EVERY, *parts_of(test, domains)}
            routes = replace(
                routes, standings=[one for one in routes.standings if one.group in few],
                shares=[one for one in routes.shares if one.group in few],
            )  # fmt: skip
        told["judges"][judge] = routes.to_json()
        for group in (EVERY, *parts_of(test, domains), *PIVOTED) if judge == "chrf" else (EVERY,):
            if group in routes.groups:
                show(routes, group)
    bound = Reference("chrf").score(test.candidates)
    told["bound"] = compare_policies(
        test, [Single(single), Every(test.teachers)], bound,
        judging=Judging("chrf", single, None), groups=parts_of(test, domains),
    ).to_json()  # fmt: skip
    told |= {
        "routers": {
            name: dict(router.learned) | {"cost_weight": router.cost_weight}
            for one in by.values()
            for name, router in one.routers.items()
        },
        "costs of an answer, CPU s": dear,
        "fixed": {name: dict(one.fixed.table) for name, one in by.items()},
        "chosen": {one.name: chosen(test, one) for one in policies if one.keep == "first"},
        "us a prompt": {
            "alone": reached(by["reference"].routers["reference"], test.rows[:1]),
            "of 1,000": reached(by["reference"].routers["reference"], test.rows[:1000]),
        },
        "cells bought by 10,000 generations": bought(table, policies, 10_000),
    }
    if given.out is not None:
        text = json.dumps(compact(told), ensure_ascii=False)
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
