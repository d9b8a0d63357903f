"""What `pomona forget compress` and `pomona forget redundancy` print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pomona.cli.output import Out
from pomona.errors import quantity
from pomona.pages import UNKNOWN, change, size

if TYPE_CHECKING:
    from pomona.forget import Compressed, Redundancy


def show_compressed(show: Out, result: Compressed, _: Mapping[str, Any]) -> None:
    """Zeros and error of each tensor, bytes, and how it was made."""
    if show.format == "json":
        show.json(result.to_json())
        return
    rows = [
        {
            "tensor": module.name,
            **({"type": module.type} if module.type else {}),
            "weights": module.weights,
            "zeros": module.zeros,
            "zeros, %": None
            if module.zeros is None
            else f"{100 * module.zeros / module.weights:.2f}",
            "relative error": None if module.error is None else f"{module.error:.4f}",
        }
        for module in result.modules
    ]
    show.table(rows, caption="relative error: ‖W − W'‖ / ‖W‖")
    show.line(
        f"{quantity(result.parameters, 'parameter')}; "
        f"{quantity(result.kept, 'tensor as it was', 'tensors as they were')}; "
        f"{size(result.disk)} on the disk, {size(result.packed)} in a form made for it"
    )
    if result.found:
        show.line(f"{quantity(result.found, 'tensor was', 'tensors were')} finished before")
    show.rest(*result.notes, result.signature)
    show.line(result.out if result.written else "nothing was written")


def show_redundancy(show: Out, result: Redundancy, _: Mapping[str, Any]) -> None:
    """The score at each fraction, and what part can be predicted at what loss."""
    if show.format == "json":
        show.json(result.to_json())
        return
    rows = [
        {
            "predicted by": point.kind.replace("_", " "),
            "known, %": f"{100 * point.fraction:g}",
            "relative error": f"{point.error:.3f}",
            result.metric: f"{point.value:.2f}",
            "difference": change(point.difference, point.ci_low, point.ci_high),
        }
        for point in result.points
    ]
    show.table(
        rows,
        caption=f"the whole model: {result.value:.2f} {result.metric} on "
        f"{quantity(result.items, 'item')}; "
        "differences with paired 95 % intervals; relative error: ‖W − W'‖ / ‖W‖",
    )
    for kind, shares in result.predictable.items():
        told = [
            f"{UNKNOWN if share is None else f'{100 * share:g} %'} at {loss} loss"
            for loss, share in shares.items()
        ]
        show.line(f"predictable by {kind.replace('_', ' ')}: {', '.join(told)}")
    show.line(result.signature)
