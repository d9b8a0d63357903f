"""The win rate of each system against the base, as a metric of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pomona.recipe.accounts import Accounts
from pomona.recipe.graph import RunFolder
from pomona.recipe.judging import judged, win_steps
from pomona.recipe.plan import Measurement, RunPlan
from pomona.recipe.steps.results import read_result, read_statistics
from pomona.recipe.steps.winning import WINS, Judged
from pomona.stats import Resamples


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
    """What the ledger of a run says of win rates against the base. Systems without a vote are left
    out, and so are groups in which one of the others has none.
    """

    def __init__(self, plan: RunPlan, folder: RunFolder) -> None:
        asked = plan.recipe.task.win_rate
        assert asked is not None
        self.asked = asked
        compared = judged(plan)
        self._steps = {m.variant: win_steps(plan, m) for m in compared}
        super().__init__(plan, folder, compared)
        items = len(self.items)
        self._read = {
            name: np.stack([read_statistics(folder.result(one) / WINS, items) for one in steps])
            for name, steps in self._steps.items()
        }
        there = [m for m in compared if self._read[m.variant][..., 1].any()]
        self.unjudged = [m.variant for m in compared if m not in there]
        self.measurements = [plan.measured(plan.base, plan.items), *there]
        self.by_variant = {m.variant: m for m in self.measurements}
        who = f"judge:{asked.judge}|flips:{asked.flips}" if asked.judge else "votes"
        template = "|template:own" if asked.template else ""
        self.metric = WinShare(f"win_rate|{who}{template}|against:{plan.recipe.base}|v1")

    @cached_property
    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Wins and verdicts of every item, `[seeds, n, 2]`; the base ties with itself."""
        base = np.broadcast_to(np.array([0.5, 1.0]), (1, len(self.items), 2))
        return {m.variant: self._read.get(m.variant, base) for m in self.measurements}

    @cached_property
    def rows(self) -> dict[str, NDArray[np.int64]]:
        """Rows of the parts in which every system has a verdict."""
        each = [self.statistics[m.variant][..., 1] for m in self.measurements]
        return {
            name: rows
            for name, rows in super().rows.items()
            if all(one[:, rows].any(1).all() for one in each)
        }

    def baselines(self, m: Measurement) -> list[str]:
        """The base alone: nobody compared others."""
        return [self.plan.recipe.base]

    def is_optimised(self, m: Measurement) -> bool:
        """Whether the judge of the answers has chosen them too."""
        return self.asked.judge is not None and m.system.arbiter == self.asked.judge

    def ladder(self, rows: NDArray[np.int64], draws: Resamples) -> None:
        """No size is ten wins worth: win rates are against one opponent."""
        return

    def notes(self) -> list[str]:
        """What verdicts there are, and what they are worth less for."""
        told = [
            read_result(self.folder.result(step) / "wins.json", Judged)
            for steps in self._steps.values()
            for step in steps
        ]
        verdicts, equal = sum(one.items for one in told), sum(one.equal for one in told)
        who = self.asked.judge or "people's votes"
        asked = verdicts - equal
        said = [
            f"Win rates are against {self.plan.recipe.base}, by {who}: {verdicts:,} verdicts, "
            f"{equal:,} of them ties of equal answers; a tie is half a win."
        ]
        if self.asked.judge and asked:
            flipped, errors = (sum(getattr(one, n) for one in told) for n in ("flipped", "errors"))
            said.append(
                f"{flipped:,} of {asked:,} verdicts turned with the order of the two answers "
                f'(each counted as "{self.asked.flips}"), and {errors:,} answers of the judge '
                "named none."
            )
        if self.unjudged:
            said.append(f"Nobody voted on {', '.join(self.unjudged)}.")
        return said
