"""`fit`: a law of training runs, with all that says how far it can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pomona import stats
from pomona.errors import PomonaError
from pomona.records import Where
from pomona.scale.laws import checks
from pomona.scale.laws.fitting import Fitted, check_told
from pomona.scale.laws.forms import FormName, check_form
from pomona.scale.laws.held_out import Procedure, fitted
from pomona.scale.laws.huber import Loss
from pomona.scale.laws.multiverse import final, multiverse as every_choice, tuned, without_highest
from pomona.scale.laws.results import Ends, ScalingFit
from pomona.scale.runs import FLOPS_EACH, Runs, read_runs

_LINE = 0.05  # standard deviation of ln tokens about a line of ln params: exponents are one
_WIDE = 0.8  # an interval of the exponent that says nothing


def fit(
    runs: Where | Sequence[Where],
    *,
    form: FormName = "chinchilla",
    params: str | None = None,
    tokens: str | None = None,
    loss: str | None = None,
    flops: str | None = None,
    unique_tokens: str | None = None,
    family: str | None = None,
    learning_rate: str | None = None,
    checkpoint: str | None = None,
    cluster: str | None = None,
    part: Sequence[str] | None = None,
    every_run: bool = False,
    drop_highest: int = 0,
    delta: float = 1e-3,
    above: float = 1.0,
    held_out: float = 0.2,
    multiverse: bool = False,
    resamples: int = stats.MINIMUM,
    seed: int = 0,
    page: Path | None = None,
) -> ScalingFit:
    """Fit a law of scale to training runs: the loss by parameters and tokens, with intervals, bands
    and what speaks against it.

    Tables have a row for each training, with the columns params, tokens and loss (nats a token);
    flops, unique_tokens, family, learning_rate, checkpoint, size, seed and run count where there
    are any. Columns that begin with params_ are other counts of the parameters.

    Args:
        runs: Tables of training runs (CSV, JSONL, Parquet), or the folder of a finished run that
            trained sizes.
        form: chinchilla: E + A/N^alpha + B/D^beta; no_floor: the same without E; kaplan: Kaplan's
            own, of both; data_constrained: with repeated tokens.
        params: Column of parameters.
        tokens: Column of tokens; without one, flops / (6 params).
        loss: Column of the loss.
        flops: Column of training FLOPs; without one, 6 params tokens.
        unique_tokens: Column of the different tokens among those trained on.
        family: Column of families, whose exponents are compared.
        learning_rate: Column of learning rates, of which the best counts.
        checkpoint: Column of training steps, of which the last counts.
        cluster: Column of what is resampled together; without one, rows of one run or training, or
            of one size and seed where seeds differ.
        part: Part of the test items, of a table with a column part: overall, unless given. With
            several the first is fitted, and the exponents of all are compared.
        every_run: All learning rates and checkpoints count.
        drop_highest: So many runs of the highest losses are left out.
        delta: Where Huber's loss of the log residuals goes from squares to straight.
        above: How many times it counts where the law is above a run: 5 or so where many runs are
            under-tuned, so that the law is what good ones reach.
        held_out: Share of the runs, those of the largest compute, that the others must predict.
        multiverse: Also fit by every other defensible choice.
        resamples: Resamples behind each interval; 0 for none, which is quicker.
        seed: Seed of the resamples.
        page: Folder for a page with pictures.

    Raises:
        PomonaError: a table cannot be read, or its runs cannot tell the form's parameters.
    """
    check_form(form)
    _check_numbers(drop_highest, delta, above, held_out, resamples)
    if page is not None:
        from pomona.scale.laws.page import check_page

        check_page(page, runs)
    columns = {"params": params, "tokens": tokens, "loss": loss, "flops": flops, "cluster": cluster}
    columns |= {"unique_tokens": unique_tokens, "family": family, "learning_rate": learning_rate}
    columns |= {"checkpoint": checkpoint}
    procedure = Procedure(form, Loss(delta, above), held_out, resamples, seed)
    studies = [
        _Study(read_runs(runs, columns, one), procedure, every_run, drop_highest)
        for one in _asked(part, family)
    ]
    result = studies[0].result(multiverse, dict(zip(part or (), studies, strict=False)))
    if page is not None:
        from pomona.scale.laws.page import write_page

        write_page(result, page)
    return result


def _asked(part: Sequence[str] | None, family: str | None) -> Sequence[str | None]:
    """The parts to fit; None stands for what a table is of."""
    part = [part] if isinstance(part, str) else part
    if part and len(set(part)) < len(part):
        raise PomonaError("a part stands twice", where="part", remedy="name each once")
    if part and len(part) > 1 and family is not None:
        message = "parts are compared as families, and there are families too"
        raise PomonaError(message, where="part", remedy="name one part, or no family")
    return part or [None]


def _check_numbers(
    drop_highest: int, delta: float, above: float, held_out: float, resamples: int
) -> None:
    asked = {
        "drop_highest": (drop_highest >= 0, "0 or more"),
        "delta": (0 < delta < np.inf, "a number above 0"),
        "above": (0 < above < np.inf, "a number above 0"),
        "held_out": (0 < held_out < 1, "a share between 0 and 1"),
        "resamples": (
            resamples == 0 or resamples >= stats.MINIMUM,
            f"{stats.MINIMUM} or more, or 0 for no intervals",
        ),
    }
    given = {"drop_highest": drop_highest, "delta": delta, "above": above}
    given |= {"held_out": held_out, "resamples": resamples}
    for name, (right, remedy) in asked.items():
        if not right:
            raise PomonaError(f"{name} is {given[name]}", where=name, remedy=f"give {remedy}")


class _Study:
    """The runs that count, their law, and what is said of it."""

    def __init__(self, read: Runs, procedure: Procedure, every: bool, highest: int) -> None:
        self.read, self.procedure, self.notes = read, procedure, list(read.notes)
        self.runs = read if every else self._counting(read)
        if highest >= len(self.runs):
            message = f"drop_highest is {highest}, and there are {len(self.runs)} runs"
            raise PomonaError(message, where="drop_highest", remedy="leave fewer out")
        if highest:
            self.runs = self.runs.take(without_highest(self.runs, highest))
            self.notes.append(f"left out: the runs of the highest losses, {highest}")
        check_told(self.runs, procedure.form)
        self.clusters = self._clusters()

    def _counting(self, runs: Runs) -> Runs:
        for name, choose, told in (
            ("checkpoint", final, "are not the last checkpoint of their training"),
            ("learning_rate", tuned, "are not of the best learning rate"),
        ):
            if name in runs.more:
                before, runs = len(runs), choose(runs)
                if before > len(runs):
                    self.notes.append(
                        f"{before - len(runs)} of {before} rows {told} and left out; "
                        "--every-run counts them"
                    )
        return runs

    def _clusters(self) -> list[Any] | None:
        """What is resampled together, where any share something."""
        keys = self.runs.clusters()
        if keys is None:
            return None
        named = next((one for one in ("cluster", "run") if one in self.runs.labels), None)
        about = named or ("training" if "checkpoint" in self.runs.more else "size and seed")
        self.notes.append(f"{len(set(keys))} clusters by {about} are resampled, not single runs")
        return keys

    def result(self, choices: bool, parts: Mapping[str, _Study]) -> ScalingFit:
        """All that is said; with several `parts` their exponents are compared."""
        law, judged = fitted(self.procedure, self.runs, self.clusters)
        told, intervals = self._told(law)
        flagged = [one for _, one in checks.untuned(self.runs, law)]
        if flagged:
            self.notes.append(
                f"{_counted(flagged)} under-tuned: worse than a smaller, shorter one, or far "
                "above the law; --above 5 fits what good runs reach"
            )
        self._say(law, intervals["exponent"])
        self._say_counting()
        return ScalingFit(
            self.procedure.form,
            told,
            intervals,
            len(self.runs),
            checks.spread(law),
            _correlation(law),
            judged,
            checks.lack_of_fit(self.runs, law, self.procedure.seed),
            flagged,
            self._families(parts),
            every_choice(self.read, self.procedure) if choices else None,
            self.notes,
            self._signature(),
            self.procedure.seed,
            self.runs,
            law,
        )

    def _families(self, parts: Mapping[str, _Study]) -> checks.Families | None:
        if len(parts) < 2:
            return checks.families(self.runs, self.procedure)
        return checks.parts({name: one.runs for name, one in parts.items()}, self.procedure)

    def _told(self, law: Fitted) -> tuple[dict[str, float | None], dict[str, Ends]]:
        """The law's numbers with intervals; None for what the runs do not tell."""
        drawn = {name: law.draws[:, place] for place, name in enumerate(("E", "A", "B"))}
        drawn |= {"alpha": law.draws[:, 3], "beta": law.draws[:, 4], "exponent": law.exponents()}
        if self.procedure.form == "data_constrained":
            drawn |= {"R_D": law.draws[:, 5], "R_N": law.draws[:, 6]}
        told = {name: getattr(law.law, name) for name in drawn}
        intervals = {name: law.interval(values) for name, values in drawn.items()}
        hidden = set(law.at_bound)
        for name, with_it in (("alpha", "A"), ("beta", "B")):
            hidden |= {with_it, "exponent"} if name in hidden else set()
        if hidden & {"alpha", "beta"}:
            hidden.add("E")
        if self.one_line:
            hidden |= {"A", "B", "alpha", "beta", "exponent"}
        intervals |= dict.fromkeys(hidden)
        return {name: None if name in hidden else told[name] for name in told}, intervals

    @property
    def one_line(self) -> bool:
        """Whether tokens follow from parameters, so that exponents cannot be told apart."""
        n, d = np.log(self.runs.params), np.log(self.runs.tokens)
        slope = np.cov(n, d)[0, 1] / n.var(ddof=1)
        return bool((d - slope * n).std() < _LINE)

    def _say(self, law: Fitted, ends: Ends) -> None:
        """Notes on what the runs do not tell."""
        if "E" in law.at_bound:
            self.notes.append(
                "the best floor is 0: the runs do not reach where the loss flattens, so E is not "
                "known"
            )
        self.notes += [
            f"{name} is at the bound of its range: the loss does not tell how it falls with {what},"
            " nor where it ends"
            for name, what in (("alpha", "parameters"), ("beta", "tokens"))
            if name in law.at_bound
        ]
        if self.one_line:
            self.notes.append(
                "tokens follow from parameters in these runs: the exponents cannot be told apart; "
                "train one size on several numbers of tokens"
            )
        if ends is not None and ends[1] - ends[0] > _WIDE:
            self.notes.append(
                "the interval of the exponent says next to nothing: give more runs, further apart"
            )
        if law.widening is None and self.procedure.resamples:
            self.notes.append(
                f"{law.resamples.units} units are too few for {law.free} parameters: no intervals"
            )
        if law.stretch > 1:
            self.notes.append(
                f"bands beyond the runs are {law.stretch:.2f} times as wide as resamples say: the "
                "largest runs were outside them"
            )

    def _say_counting(self) -> None:
        """Notes on what parameters, tokens and FLOPs count."""
        runs, form = self.runs, self.procedure.form
        unique = runs.more.get("unique_tokens")
        repeats = 0 if unique is None else int((runs.tokens > 1.001 * unique).sum())
        if repeats and form != "data_constrained":
            self.notes.append(
                f"{repeats} of the runs repeat tokens, which {form} counts as new: see "
                "data_constrained"
            )
        off = runs.flops / (FLOPS_EACH * runs.params * runs.tokens)
        if off.max() > 1.1 or off.min() < 0.9:
            self.notes.append(
                f"flops are {off.min():.2f} to {off.max():.2f} times 6 params tokens; plans count 6"
            )

    def _signature(self) -> str:
        p = self.procedure
        parts = ["scale", f"form:{p.form}", f"runs:{self.runs.digest}", f"n:{len(self.runs)}"]
        parts += [f"huber:{p.loss.delta:g}", f"above:{p.loss.above:g}", f"held-out:{p.share:g}"]
        parts += [] if self.read.part is None else [f"part:{self.read.part}"]
        parts += [] if self.read.measure == "loss" else [f"loss:{self.read.measure}"]
        clustered = [] if self.clusters is None else [f"clusters:{len(set(self.clusters))}"]
        parts += [*clustered, f"resamples:{p.resamples}", f"seed:{p.seed}"]
        return "|".join([*parts, f"pomona:{version('pomona')}"])


def _counted(runs: Sequence[Any]) -> str:
    return "1 run is" if len(runs) == 1 else f"{len(runs)} runs are"


def _correlation(law: Fitted) -> float | None:
    columns = np.stack([np.log(law.draws[:, 1]), law.draws[:, 3]])
    if not columns.size or not np.isfinite(columns).all() or min(columns.std(1)) < 1e-12:
        return None
    return float(np.asarray(np.corrcoef(columns))[0, 1])
