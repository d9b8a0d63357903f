"""Running a long list through a network in batches that fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from pomona.errors import ResourceError

Item = TypeVar("Item")
Result = TypeVar("Result")
Run = Callable[[Sequence[Item]], list[Result]]


def in_batches(
    items: Sequence[Item],
    size: Callable[[Item], int],
    run: Run[Item, Result],
    report: Callable[[int, int], None],
) -> list[Result]:
    """One result an item, in their order. `size` tells how many items fit from an item on, so the
    largest come first.
    """
    results: list[Result] = []
    while len(results) < len(items):
        at = len(results)
        results += _halving(items[at : at + size(items[at])], run)
        report(len(results), len(items))
    return results


def _halving(items: Sequence[Item], run: Run[Item, Result]) -> list[Result]:
    """`run`, and where the device has too little memory both halves one after the other."""
    try:
        return run(items)
    except torch.OutOfMemoryError as error:
        if len(items) == 1:
            raise ResourceError(
                "the device has too little memory for a single row",
                remedy="use fewer tokens a row, a smaller dtype, or device=cpu",
            ) from error
    torch.cuda.empty_cache()
    middle = len(items) // 2
    return _halving(items[:middle], run) + _halving(items[middle:], run)
