"""The win rate of each system against the base, as a metric of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from pomona.errors import quantity
from pomona.recipe.accounts import Accounts
from pomona.recipe.asking import judge_of
from pomona.recipe.graph import Node, RunFolder, Step
from pomona.recipe.judging import judged, poll_step, win_steps
from pomona.recipe.plan import RunPlan
from pomona.recipe.steps.results import read_result, read_statistics
from pomona.recipe.steps.winning import WINS, Judged, Polled, Voted, compares
from pomona.recipe.system import Measurement
from pomona.stats import Comparison, Resamples, wilson

T = TypeVar("T")
_SHOWN = 8  # names in a note


@dataclass(frozen=True)
class WinShare:
    """Percent of items with a verdict that were won, a tie counting half, of the sums of wins and
    verdicts; 50 where there is none.
    """

    signature: str
    name: str = "win_rate"
    higher_is_better: bool = True
    reads: str = "text"

    def statistics(
        self, outputs: Sequence[float | None], references: Sequence[object] = (), /
    ) -> NDArray[np.float64]:
        """Wins and verdicts `[n, 2]` of verdicts 1, .5, 0 or None."""
        sums = [(value or 0.0, float(value is not None)) for value in outputs]
        return np.array(sums, np.float64).reshape(len(outputs), 2)

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """`[..., 2]` to `[...]`."""
        won, judged = sums[..., 0], sums[..., 1]
        return np.where(judged > 0, 100 * won / np.maximum(judged, 1e-300), 50.0)


class Wins(Accounts):
    """What the ledger of a run says of win rates against the base: of each system on the items on
    which somebody said what is better, `n` of them.
    """

    def __init__(self, plan: RunPlan, folder: RunFolder) -> None:
        asked = plan.recipe.task.win_rate
        assert asked is not None
        self.asked = asked
        self.compared_all = judged(plan)
        self._steps = {m.variant: win_steps(plan, m) for m in self.compared_all}
        super().__init__(plan, folder, self.compared_all)
        read = {name: self._sums(steps) for name, steps in self._steps.items()}
        self._read = {name: sums for name, sums in read.items() if len(sums)}
        there = [m for m in self.compared_all if m.variant in self._read]
        self.unjudged = [m.variant for m in self.compared_all if m not in there]
        self.measurements = [plan.measured(plan.base, plan.items), *there]
        self.by_variant = {m.variant: m for m in self.measurements}
        self.metric = WinShare(f"win_rate|{self._who()}|against:{plan.recipe.base}|v2")

    def _who(self) -> str:
        asked = self.asked
        if asked.judge is None:
            return "votes"
        parts = [f"judge:{asked.judge}", f"flips:{asked.flips}", *(["free"] if asked.free else [])]
        if asked.template:
            parts.append(f"template:{sha256(asked.template.encode()).hexdigest()[:8]}")
        if asked.per_group:
            parts.append(f"per_group:{asked.per_group}")
        return "|".join(parts)

    def _sums(self, steps: Sequence[Step]) -> NDArray[np.float64]:
        """Wins and verdicts of every item, `[seeds, n, 2]`, of the trainings that have any."""
        files = [self.folder.result(one) / WINS for one in steps]
        sums = np.stack([read_statistics(file, len(self.items)) for file in files])
        return sums[sums[..., 1].any(1)]

    @cached_property
    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Wins and verdicts of every item, `[seeds, n, 2]`; the base ties with itself."""
        base = np.broadcast_to(np.array([0.5, 1.0]), (1, len(self.items), 2))
        return {m.variant: self._read.get(m.variant, base) for m in self.measurements}

    @cached_property
    def rows(self) -> dict[str, NDArray[np.int64]]:
        """Rows of the parts in which some system has a verdict."""
        told = np.zeros(len(self.items), bool)
        for sums in self._read.values():
            told |= sums[..., 1].any(0)
        return {name: rows for name, rows in super().rows.items() if told[rows].any()}

    def known(self, m: Measurement, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those with a verdict."""
        return rows[self.statistics[m.variant][:, rows, 1].any(0)]

    def compared(self, m: Measurement, baseline: str, rows: NDArray[np.int64]) -> Comparison:
        """Against the base. Where all verdicts agree, or all items are of one cluster, resamples
        agree too and know of no error: the interval is then Wilson's, of the share of verdicts that
        could be others, and the p-value that of the sign test.
        """
        found = super().compared(m, baseline, rows)
        each = self.metric.aggregate(self.statistics[m.variant][:, rows].sum(0))
        units = self.draws(rows).units
        if m.variant == baseline or (np.ptp(each) and units > 1):
            return found
        _, other = wilson(0, units)
        low, high = found.value * other, (100 - found.value) * other
        p_value = min(1.0, 2 * 0.5**units) if found.delta else 1.0
        low, high = found.delta - low, found.delta + high
        return replace(found, ci_low=low, ci_high=high, p_value=p_value)

    def baselines(self, m: Measurement) -> list[str]:
        """The base alone: nobody compared others."""
        return [self.plan.recipe.base]

    def is_optimised(self, m: Measurement) -> bool:
        """Whether the judge of the answers has chosen them too."""
        return self._is_judge(judge_of(self.plan, m.system))

    def _is_judge(self, model: Node | None) -> bool:
        """Whether a model is the judge, by whatever name."""
        name = None if model is None else self.plan.names.get(model)
        if name is None or self.asked.judge is None:
            return False
        return self.plan.recipe.uri(name) == self.plan.recipe.uri(self.asked.judge)

    def ladder(self, rows: NDArray[np.int64], draws: Resamples) -> None:
        """No size is ten wins worth: win rates are against one opponent."""
        return

    def notes(self) -> list[str]:
        """What verdicts there are, what they are worth less for, and what has none."""
        told = self._judged_notes() if self.asked.judge else self._voted_notes()
        return [*told, *self._missing()]

    def _told(self, kind: type[T]) -> list[T]:
        steps = dict.fromkeys(step for steps in self._steps.values() for step in steps)
        return [read_result(self.folder.result(step) / "wins.json", kind) for step in steps]

    def _judged_notes(self) -> list[str]:
        told = self._told(Judged)
        names = ("items", "equal", "asked", "flipped", "none", "errors")
        items, equal, asked, flipped, none, errors = (
            sum(getattr(one, name) for one in told) for name in names
        )
        judge = self.asked.judge
        said = [
            f"Win rates are against {self.plan.recipe.base}, by {judge}: "
            f"{quantity(items, 'verdict')}, "
            f"{equal:,} of them ties of equal answers; a tie is half a win."
        ]
        if asked:
            wrong = next((one.wrong for one in told if one.wrong), None)
            said.append(
                f"Of {asked:,} pairs that the judge was asked about, {quantity(flipped, 'verdict')}"
                " turned "
                f'with the order of the two answers (each counted as "{self.asked.flips}"), and '
                f"{quantity(none, 'has', 'have')} no verdict that counts; "
                f"{quantity(errors, 'answer of the judge', 'answers of the judge')} named none"
                + (f", the first one: {wrong}" if wrong else ".")
            )
        every = [self.measurements[0], *self.compared_all]
        own = [m.variant for m in every if self._is_judge(m.model)]
        if own:
            said.append(
                f"The judge {judge} is the model that answers as {_few(own)}, and models tend to "
                "prefer their own answers."
            )
        return said

    def _voted_notes(self) -> list[str]:
        told, polls = self._told(Voted), poll_step(self.plan)
        assert polls is not None
        polled = read_result(self.folder.result(polls) / "votes.json", Polled)
        items, votes, elsewhere, stale = (
            sum(getattr(one, name) for one in told)
            for name in ("items", "votes", "elsewhere", "stale")
        )
        voters = polled.voters
        people = "" if voters is None else f" by {voters:,} {'person' if voters == 1 else 'people'}"
        base = self.plan.recipe.base
        said = [
            f"Win rates are against {base}, by people's votes: {quantity(votes, 'vote')}"
            f" on {quantity(items, 'pair')} "
            f"of answers{people}; a tie is half a win. Their intervals are of the items, and do "
            "not cover that others would have voted."
        ]
        left = {
            f"on items that are no test items of this run: {elsewhere:,}": elsewhere,
            f"on other answers than those of this run: {stale:,}": stale,
            self._others(polled): polled.votes - votes - elsewhere - stale,
            f"that stand there twice: {polled.twice:,}": polled.twice,
        }
        if unused := sum(left.values()):
            why = "; ".join(text for text, number in left.items() if number)
            said.append(
                f"{unused:,} of {polled.votes + polled.twice:,} votes are not used, those {why}."
            )
        return said + [f"Of the votes: {note}." for note in polled.notes]

    def _others(self, polled: Polled) -> str:
        """Votes on pairs of which none of the steps counts any."""
        steps = [step.params for steps in self._steps.values() for step in steps]
        others = [
            (f"{a} / {b}", n)
            for a, b, n in polled.pairs
            if not any(compares((a, b), one["systems"], one["bases"]) for one in steps)
        ]
        number = sum(n for _, n in others)
        few = _few([name for name, _ in others])
        return f"on pairs that are not one of the judged systems and the base: {number:,} ({few})"

    def _missing(self) -> list[str]:
        """The systems, and parts of test items, without a win rate."""
        said = []
        if self.unjudged:
            names = ", ".join(self.unjudged)
            none = f"The judge named no verdict that counts on {names}, without a win rate."
            said.append(none if self.asked.judge else f"Nobody voted on {names}.")
        parts = super().rows
        for m in self.measurements[1:]:
            lack = [name for name, rows in parts.items() if not self.known(m, rows).size]
            if lack:
                said.append(f"{m.variant} has no win rate on {_few(lack)}: no verdict is there.")
        return said


def _few(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
