"""How `pomona scale fit` and `plan` show their results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pomona.cli.output import Out
from pomona.pages import UNKNOWN, amount, clean, flops, p_value, short

if TYPE_CHECKING:
    from pomona.scale import Allocation, ScalingFit


def show_fit(show: Out, result: ScalingFit, given: Mapping[str, Any]) -> None:
    """The law, what speaks against it, and every other choice."""
    if show.format == "json":
        show.json(result.to_json())
        return
    rows = [
        {"": name, "value": amount(value), "95 % interval": _ends(result.intervals[name])}
        for name, value in result.told.items()
    ]
    caption = "exponent: beta / (alpha + beta), by which power of the compute the best parameters "
    caption += "grow. A and B are not to be read alone: ln A and alpha go together"
    if result.correlation is not None:
        caption += f" ({result.correlation:.3f})"
    show.table(rows, caption=caption)
    held = result.held_out
    if held.error is not None:
        inside = UNKNOWN if held.coverage is None else f"{held.coverage:.0%}"
        show.line(
            f"held out, the {held.n} runs of the largest compute: {held.error:.2%} off on average, "
            f"bias {held.bias:+.2%}, {inside} inside their 95 % bands"
        )
    fits = result.lack_of_fit
    show.line(
        f"the loss bends as the law says: p {p_value(fits.p_value)} ({fits.note or fits.test})"
    )
    _show_families(show, result)
    _show_choices(show, result)
    for one in result.untuned:
        show.line(f"under-tuned: {clean(one.place)}: {clean(one.reason)}")
    notes = [note for note in (held.note, *result.notes) if note]
    show.rest(*notes, result.signature, page=given.get("page"))


def _show_families(show: Out, result: ScalingFit) -> None:
    if (families := result.families) is None:
        return
    columns = ("alpha", "beta", "exponent")
    rows = [
        {
            "family": clean(name),
            "runs": one.n,
            **{c: f"{amount(getattr(one, c))} {_ends(one.intervals.get(c))}" for c in columns},
            "note": one.held_apart or "",
        }
        for name, one in families.laws.items()
    ]
    told = families.note or (
        f"all the same: p {p_value(families.p_alpha_beta)} for alpha and beta, "
        f"{p_value(families.p_exponent)} for the exponent"
    )
    show.table(rows, caption=told)


def _show_choices(show: Out, result: ScalingFit) -> None:
    if (choices := result.multiverse) is None:
        return
    rows = [
        {
            "parameters": clean(cell.counting),
            "loss": cell.loss
            if cell.measure == choices.cells[0].measure
            else f"{cell.loss} of {cell.measure}",
            "runs": cell.runs,
            "checkpoints": cell.checkpoints,
            "E": amount(cell.E),
            "exponent": f"{amount(cell.exponent)} {_ends((cell.exponent_low, cell.exponent_high))}",
            "loss at 10x": amount(cell.loss_ahead),
            "held-out error": UNKNOWN if cell.error is None else f"{cell.error:.2%}",
        }
        for cell in choices.cells
    ]
    caption = f"exponent: {_ends(choices.exponent)} over all choices, with resamples "
    caption += f"{_ends(choices.exponent_interval)}; loss at ten times the largest compute: "
    show.table(rows, caption=f"{caption}{_ends(choices.loss_ahead)}")


def _ends(ends: tuple[float | None, float | None] | None) -> str:
    if ends is None or None in ends:
        return f"interval {UNKNOWN}"
    return f"[{amount(ends[0])}, {amount(ends[1])}]"


def show_plan(show: Out, result: Allocation, given: Mapping[str, Any]) -> None:
    """The best model for a budget, and how flat it is about it."""
    if show.format == "json":
        show.json(result.to_json())
        return
    rows: list[dict[str, Any]] = [
        {"": "parameters", "best": short(result.params)},
        {"": "tokens", "best": short(result.tokens)},
        {"": "loss", "best": f"{result.loss:.4f}"},
    ]
    within = (result.params_within, result.tokens_within, None)
    for row, name, ends in zip(rows, ("params", "tokens", "loss"), within, strict=True):
        told = result.intervals[name]
        write = short if name != "loss" else amount
        row["95 % interval"] = "—" if told is None else f"[{write(told[0])}, {write(told[1])}]"
        row["within 1 % of the best loss"] = (
            "—" if ends is None else f"{short(ends[0])} to {short(ends[1])}"
        )
    show.table(rows, caption=f"{result.form}: {clean(result.law)}")
    if result.epochs is not None:
        show.line(f"epochs: {result.epochs:.2f}")
    show.line(
        f"training {flops(result.training_flops)}, serving {flops(result.inference_flops)} FLOPs"
    )
    show.rest(*result.notes, result.signature, page=given.get("page"))
