"""`plan`: the best parameters, tokens and epochs for a budget."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pomona.errors import PomonaError
from pomona.records import Where
from pomona.scale.laws.budget import SERVED_EACH, Budget
from pomona.scale.laws.fitting import Fitted
from pomona.scale.laws.forms import NAMES, PUBLISHED, SOURCES
from pomona.scale.laws.results import Allocation, Ends
from pomona.scale.laws.run import fit
from pomona.scale.runs import FLOPS_EACH

_WITHIN = 0.01  # of the best loss
_MANY = 4  # epochs after which repetition is worth clearly less (Muennighoff et al. 2023, §6)
_POINTS = 61


def plan(
    runs: Where | Sequence[Where],
    *,
    budget: float,
    served: float = 0.0,
    unique: float | None = None,
    page: Path | None = None,
    **fitting: Any,
) -> Allocation:
    """Say how large a model to train and on how many tokens for a budget of FLOPs, of which serving
    it over its life may take a part, with the models that are as good within 1 %.

    A model of N parameters that is trained on D tokens and serves T takes 6 N D + 2 N T FLOPs.

    Args:
        runs: Tables of training runs, as fit takes them, or a published law: hoffmann, besiroglu or
            muennighoff.
        budget: FLOPs of training and serving together.
        served: Tokens that the model reads and writes over its life.
        unique: Different tokens that there are; more are repetitions, which are worth less.
        page: Folder for a page with pictures.
        fitting: Options of fit, where runs are fitted.

    Raises:
        PomonaError: the budget is too small to train anything, or the runs cannot be fitted.
    """
    _check_budget(budget, served, unique)
    if page is not None:
        from pomona.scale.laws.page import check_page

        check_page(page, runs)
    result = _plan(runs, Budget(budget, served, unique), fitting)
    if page is not None:
        from pomona.scale.laws.page import write_plan

        write_plan(result, page)
    return result


def _check_budget(budget: float, served: float, unique: float | None) -> None:
    for name, value, least in (("budget", budget, 1), ("served", served, 0), ("unique", unique, 1)):
        if value is not None and not least <= value < np.inf:
            remedy = f"give a number of {'FLOPs' if name == 'budget' else 'tokens'}, such as 1e21"
            raise PomonaError(f"{name} is {value:g}", where=name, remedy=remedy)
    if budget < 1e6 * (FLOPS_EACH + SERVED_EACH * served):
        message = f"{budget:g} FLOPs do not train and serve a model of a million parameters"
        raise PomonaError(message, where="budget", remedy="give more, or serve fewer tokens")


def _plan(runs: Any, budget: Budget, fitting: dict[str, Any]) -> Allocation:
    notes: list[str] = []
    fitted: Fitted | None = None
    if (name := _published(runs)) is not None:
        if fitting:
            option, remedy = next(iter(fitting)), "leave it out, or give runs"
            message = f"means nothing with a published law ({name})"
            raise PomonaError(message, where=option, remedy=remedy)
        law, told, signature = PUBLISHED[name], SOURCES[name], name
        notes.append(f"{told}: on its data, with its tokenizer; no interval")
    else:
        found = fit(runs, **fitting)
        fitted, law, signature, told = (
            found.fitted,
            found.law,
            found.signature,
            "the law of the runs",
        )
        unknown = [name for name, value in found.told.items() if value is None]
        if unknown:
            notes.append(f"the runs do not tell {', '.join(unknown)}: the plan stands on sand")
        if budget.flops > fitted.largest:
            notes.append(f"the budget is {budget.flops / fitted.largest:.3g} times the largest run")
    form, values = law.form, law.values
    draws = np.empty((0, len(NAMES))) if fitted is None else fitted.draws
    if budget.unique is not None and form != "data_constrained":
        form, worth = "data_constrained", PUBLISHED["muennighoff"].values[5:]
        values = np.concatenate([values[:5], worth])
        draws = np.hstack([draws[:, :5], np.broadcast_to(worth, (len(draws), 2))])
        notes.append("what repetition is worth is that of muennighoff: R_D 15.4, R_N 5.3")
    best = float(budget.best(form, values[None])[0])
    made = _Made(budget, form, values, draws, best, fitted)
    return made.allocation(told, notes, signature)


def _published(runs: Any) -> str | None:
    """The name of a published law, where runs are named by one and there is no such file."""
    names = [runs] if isinstance(runs, str) else list(runs) if isinstance(runs, list) else []
    known = len(names) == 1 and names[0] in PUBLISHED and not Path(names[0]).exists()
    return str(names[0]) if known else None


class _Made:
    """A plan and what surrounds it."""

    def __init__(
        self,
        budget: Budget,
        form: str,
        values: Any,
        draws: Any,
        best: float,
        fitted: Fitted | None,
    ) -> None:
        self.budget, self.form, self.values, self.draws = budget, form, values, draws
        self.best, self.fitted = best, fitted
        self.loss = float(budget.losses(form, values[None], np.array([best]))[0, 0])

    def allocation(self, law: str, notes: list[str], signature: str) -> Allocation:
        budget, params = self.budget, float(np.exp(self.best))
        tokens = float(budget.tokens(np.array(self.best)))
        low, high = budget.within(self.form, self.values, self.best, _WITHIN)
        epochs = None if budget.unique is None else max(1.0, tokens / budget.unique)
        if epochs is not None and epochs > _MANY:
            notes.append(
                f"{epochs:.1f} epochs: the law never says that repetition harms, which beyond "
                f"{_MANY} it may"
            )
        ends = budget.tokens(np.array([high, low]))
        seed = 0 if self.fitted is None else self.fitted.resamples.seed
        about = f"plan|budget:{budget.flops:g}|served:{budget.served:g}|unique:{budget.unique}"
        return Allocation(
            params,
            tokens,
            epochs,
            self.loss,
            self._intervals(params, tokens),
            (float(np.exp(low)), float(np.exp(high))),
            (float(ends[0]), float(ends[1])),
            budget.flops,
            FLOPS_EACH * params * tokens,
            SERVED_EACH * params * budget.served,
            budget.served,
            budget.unique,
            self.form,
            law,
            notes,
            f"{about}|{signature}"
            + ("" if "pomona:" in signature else f"|pomona:{version('pomona')}"),
            seed,
            self._curve(low, high),
        )

    def _intervals(self, params: float, tokens: float) -> dict[str, Ends]:
        if self.fitted is None or not len(self.draws):
            return {"params": None, "tokens": None, "loss": None}
        drawn = self.budget.best(self.form, self.draws)
        unique = None if self.budget.unique is None else np.array([self.budget.unique])
        at = np.array([self.loss]), self.draws, np.array([params]), np.array([tokens])
        low, high = self.fitted.band(self.form, *at, unique)
        return {
            "params": self.fitted.interval(np.exp(drawn)),
            "tokens": self.fitted.interval(self.budget.tokens(drawn)),
            "loss": None if low is None or high is None else (float(low[0]), float(high[0])),
        }

    def _curve(self, low: float, high: float) -> list[dict[str, float]]:
        """The loss over parameters at this budget, and at a tenth and ten times of it."""
        reach = max(high - self.best, self.best - low) * 1.6
        found = []
        for times in (0.1, 1.0, 10.0):
            other = Budget(self.budget.flops * times, self.budget.served, self.budget.unique)
            if other.flops <= SERVED_EACH * self.budget.served * 1e6:
                continue
            middle = float(other.best(self.form, self.values[None])[0])
            grid = np.linspace(middle - reach, middle + reach, _POINTS)
            grid = grid[other.tokens(grid) > 1]
            losses = other.losses(self.form, self.values[None], grid)[0]
            for n, loss in zip(np.exp(grid), losses, strict=True):
                found.append({"flops": other.flops, "params": float(n), "loss": float(loss)})
        return found
