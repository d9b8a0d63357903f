"""The synthesis lever's work: the answers that a policy buys of its teachers, and a student that
learns from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pomona.data.mixing import Mixture, constant, plan_mixture
from pomona.errors import PomonaError
from pomona.files import write_json
from pomona.ledger import Meter
from pomona.recipe.steps import Cost, StepContext
from pomona.recipe.steps.lessons import SPENT, Written, held_out
from pomona.recipe.steps.tables import read_items, write_items, write_items_and_counts
from pomona.recipe.steps.training import train_and_save, trainable
from pomona.synth.checks import Check, NearDuplicates, checks_from, reason_of
from pomona.synth.rewards import Reward, by_row, key_of, reward_from
from pomona.synth.routing import (
    Every,
    Policy,
    Pool,
    Random,
    Single,
    lot,
    measure_fixed,
)
from pomona.synth.teachers import Assignment, Candidate
from pomona.tasks import Items

if TYPE_CHECKING:
    from pomona.train import Examples, Order, TrainSettings

CARD = "synthesis.json"
TAUGHT_BY = "teacher "  # begins the names of inputs that are teachers, whose training is paid


@dataclass(frozen=True)
class Card:
    """What `synthesis.json` says of the rows that a policy bought: how many answers teachers wrote,
    how many rows came of them, what was turned down and why, and what the answers and the reward
    cost; of programs the CPU seconds. What is not known is None.
    """

    policy: str
    generations: int
    rows: int
    by_teacher: dict[str, int]
    rejects: dict[str, int]
    flops: float | None
    tokens: float | None
    money: float | None
    program_seconds: float


def route(step: StepContext) -> Cost:
    """The rows that a policy buys of its teachers for so many generations, each with who wrote it;
    what does not pass the checks is turned down.
    """
    p = step.params
    with Meter() as meter:
        cells = read_items(step.inputs["items"])
        written = Written.read(step, "items", "lessons-", p["teachers"], references=False)
        checks = _Checks(checks_from(p["checks"]), p["unknown"], held_out(step))
        policy = _policy(step, checks)
        order = sorted(written.rows, key=lambda row: lot(p["seed"], row.id))
        bought = _Bought(written, p["generations"], checks)
        reward = reward_from(p["reward"], store=step.scratch / "rewards.db")
        kept = bought.take(policy, order, reward)
        judged = _judging(reward)
        _write_rows(step, cells, kept)
    if not kept:
        told = ", ".join(f"{why} ({n:,})" for why, n in bought.rejects.most_common(3))
        message = f"no row came of {bought.generations:,} answers: {told or 'nobody was asked'}"
        raise PomonaError(message, where=p["policy"], remedy="mend the teachers or the checks")
    spent = {name: _sum([*bought.spent, judged], name) for name in SPENT}
    programs = [one for name, one in bought.by if name in p["programs"]]
    by_teacher = Counter(name for one in kept for name in [one.lesson.teacher])
    card = Card(
        p["policy"], bought.generations, len(kept), dict(by_teacher), dict(bought.rejects),
        spent["flops"], spent["tokens"], spent["money"], _sum(programs, "seconds") or 0.0,
    )  # fmt: skip
    write_json(step.out / CARD, asdict(card))
    seconds = None if spent["seconds"] is None else spent["seconds"] + meter.cpu_seconds
    tokens = None if spent["tokens"] is None else int(spent["tokens"])
    return Cost(spent["flops"], tokens, seconds, meter.wall_seconds, spent["money"])


def _judging(reward: Reward) -> dict[str, float | None]:
    """What a reward cost. Its seconds are those of this step, but for what a server computed, of
    which nothing is known.
    """
    used = reward.usage
    tokens = float(used.prompt_tokens + used.completion_tokens)
    seconds = None if used.flops is None else 0.0
    return {"flops": used.flops, "tokens": tokens, "money": used.money, "seconds": seconds}


def _sum(costs: Iterable[Mapping[str, Any]], name: str) -> float | None:
    known = [one[name] for one in costs]
    return None if None in known else float(sum(known))


def _policy(step: StepContext, checks: _Checks) -> Policy:
    p, names = step.params, step.params["teachers"]
    how, _, teacher = p["policy"].partition(" ")
    if how == "single":
        return Single(teacher)
    if how == "random":
        return Random(names, p["seed"])
    if how in ("reward", "all"):
        return Every(names, "best" if how == "reward" else "all")
    judged = Written.read(step, "validation", "judged-", names, references=True)
    pool = Pool.of([one for one in judged.candidates() if checks.reason(one) is None])
    worth = reward_from({"reference": {"metric": p["metric"]}}).score(pool.candidates)
    if how == "fixed":
        return measure_fixed(pool, worth)
    from pomona.synth.routing import Form, Learned, learn_router  # brings scipy's optimisers

    return Learned(learn_router(pool, worth, form=Form(seed=p["seed"])))


@dataclass(frozen=True)
class _Checks:
    """What an answer must pass; `unknown` is the share of words that a program may not know, and
    `held` what none may be a near copy of.
    """

    checks: list[Check]
    unknown: float
    held: NearDuplicates

    def reason(self, one: Candidate) -> str | None:
        """Why an answer is not kept; None where it is."""
        words = max(1, len(one.lesson.text.split()))
        if (one.lesson.unknown or 0) / words > self.unknown:
            return "has words that the program did not know"
        if self.held.nearest(one.lesson.text) is not None:
            return "is near a test item"
        found = reason_of(self.checks, one)
        return found[0] if found else None


class _Bought:
    """The answers that a policy asked for, with what they cost, and those that were kept."""

    def __init__(self, written: Written, most: int, checks: _Checks) -> None:
        self._written, self._most, self._checks = written, most, checks
        self.by: list[tuple[str, dict[str, Any]]] = []
        self.rejects: Counter[str] = Counter()

    @property
    def generations(self) -> int:
        return len(self.by)

    @property
    def spent(self) -> list[dict[str, Any]]:
        return [told for _, told in self.by]

    def take(self, policy: Policy, rows: Sequence[Assignment], reward: Reward) -> list[Candidate]:
        """What is kept of each row's answers: of several the best by the reward, unless all are."""
        found: list[Candidate] = []
        for row, names in zip(rows, policy.ask(rows), strict=True):
            each = {name: drawn for name in names if (drawn := self._written.drawn(name, row))}
            first = next(iter(each.values()), [])
            costs = len(first) if policy.keep == "first" else sum(map(len, each.values()))
            if self.generations + max(1, costs) > self._most:
                break
            for name, drawn in each.items():
                if self.generations + len(drawn) > self._most:
                    break
                wrote = [one for told in drawn if (one := self._judge(name, row, told))]
                found += wrote
                if policy.keep == "first" and wrote:
                    break
        if policy.keep != "all":
            return _best(found, reward)
        texts = {(one.row.id, one.lesson.text): one for one in reversed(found)}
        return list(reversed(texts.values()))

    def _judge(self, name: str, row: Assignment, told: dict[str, Any]) -> Candidate | None:
        """A lesson that is paid for, as a candidate; None where it is turned down."""
        self.by.append((name, told))
        one = self._written.candidate(name, row, told)
        wrong = told["reason"] if one is None else self._checks.reason(one)
        if wrong is not None:
            self.rejects[f"{name}: {wrong}"] += 1
            return None
        return one


def _best(found: Sequence[Candidate], reward: Reward) -> list[Candidate]:
    """Of each row's answers the best, the first of equals. Of one alone no reward is asked."""
    rows = [[found[at] for at in places] for places in by_row(found)]
    several = [one for row in rows if len(row) > 1 for one in row]
    told = np.nan_to_num(reward.score(several), nan=-np.inf) if several else ()
    worth = dict(zip(map(key_of, several), told, strict=True))
    return [max(row, key=lambda one: worth.get(key_of(one), 0.0)) for row in rows]


def _write_rows(step: StepContext, cells: Items, kept: Sequence[Candidate]) -> None:
    """The rows as items, and who wrote them."""
    row = {id_: at for at, id_ in enumerate(cells.ids)}
    times: Counter[str] = Counter()
    ids = []
    for one in kept:
        times[one.row.id] += 1
        ids.append(f"{one.row.id}-{times[one.row.id]}")
    items = cells.take([row[one.row.id] for one in kept])
    texts = [one.lesson.text for one in kept]
    write_items(step.out, replace(items, ids=ids, completions=texts))
    licences = step.params["licences"]
    told = {
        "id": ids,
        "group": items.groups,
        "source": items.sources,
        "answer": texts,
        "teacher": [one.lesson.teacher for one in kept],
        "licence": pa.array([licences[one.lesson.teacher] for one in kept], pa.string()),
    }
    pq.write_table(pa.table(told), step.out / "rows.parquet", compression="zstd")


def add_rows(step: StepContext) -> Cost:
    """Items with those that were written for them."""
    with Meter() as meter:
        real, more = (read_items(step.inputs[name]) for name in ("items", "written"))
        table = pa.concat_tables([real.to_table(), more.to_table()])
        whole = Items.from_table(table)
        write_items_and_counts(step.out, whole, whole)
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def finetune_raised(step: StepContext) -> Cost:
    """Continue a model on items of which some groups have a share of the tokens."""
    p = step.params

    def scheduled(items: Items) -> Order:
        raised = np.isin(items.groups, p["groups"])

        def order(examples: Examples, tokens: int, settings: TrainSettings) -> list[np.ndarray]:
            names = np.where(raised[examples.rows], "raised", "rest")
            mixture = Mixture({"raised": p["raised"], "rest": 1 - p["raised"]})
            return plan_mixture(
                examples.lengths,
                names,
                constant(mixture),
                batch_tokens=settings.batch_tokens,
                tokens=tokens,
                seed=settings.seed,
            )

        return order

    return train_and_save(step, *trainable(step), scheduled=scheduled)
