"""Batches for the trainer that hold a schedule: the stream of rows, cut into windows, sorted by
length only within each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pomona.data.mixing.order import Block, Ints, check_extent, stream
from pomona.data.mixing.schedule import Schedule
from pomona.errors import PomonaError, quantity
from pomona.train import fill_batches

# batches whose rows are sorted by length together; the schedule holds from one window to the next
WINDOW = 128


def plan_mixture(
    lengths: Ints,
    groups: Sequence[str] | NDArray[np.str_],
    schedule: Schedule,
    *,
    batch_tokens: int,
    tokens: int,
    seed: int,
) -> list[Ints]:
    """Batches of row indices, each at most `batch_tokens` padded tokens (a longer row stands
    alone), for `tokens` real ones.

    `lengths` is `[n, 2]` (prompt, completion), `groups` `[n]` says which dataset of the schedule a
    row is of. The budget is passed by less than a row. Batches are filled as
    `pomona.train.plan_batches` fills them, and none has rows of two phases. The plan depends on its
    arguments alone, so a training resumes by skipping the batches it has had.

    Raises:
        PomonaError: a group has no share in the schedule or a share above 0 no rows, or `tokens` is
            not positive.
    """
    names = np.asarray(groups)
    rows = {name: np.flatnonzero(names == name) for name in schedule.names}
    _check_groups(names, schedule)
    total = lengths.sum(1)
    ordered = stream(
        {name: total[mine] for name, mine in rows.items()}, schedule, tokens=tokens, seed=seed
    )
    check_extent({name: total[mine] for name, mine in rows.items()}, schedule, tokens)
    everything = np.concatenate(list(rows.values()))
    first = np.cumsum([0, *map(len, rows.values())])
    whole = Block.joined(list(ordered.blocks()))
    order = everything[first[whole.dataset] + whole.row]
    plan: list[Ints] = []
    for number, window in enumerate(
        np.split(
            order, _cuts(total[order], whole.time, schedule.bounds[1:-1] * tokens, batch_tokens)
        )
    ):
        rng = np.random.default_rng([seed, number])
        batches = list(fill_batches(_alike(window, lengths, batch_tokens), lengths, batch_tokens))
        plan.extend(batches[i] for i in rng.permutation(len(batches)))
    return plan


def _cuts(
    sizes: Ints, times: NDArray[np.float64], bounds: NDArray[np.float64], batch_tokens: int
) -> Ints:
    """Where windows begin: at every phase, and within it after each `WINDOW` batches' worth of
    tokens.
    """
    phase = np.searchsorted(bounds, times, "right")
    before = np.cumsum(sizes) - sizes
    begins = np.searchsorted(phase, np.arange(len(bounds) + 1))
    window = (before - before[np.minimum(begins, len(before) - 1)][phase]) // (
        WINDOW * batch_tokens
    )
    return np.flatnonzero((np.diff(phase) != 0) | (np.diff(window) != 0)) + 1


def _alike(rows: Ints, lengths: Ints, batch_tokens: int) -> Ints:
    """`rows` so that neighbours are alike in both lengths: strips of like total, each by prompt
    length, up and down in turn.

    Both sides of a batch are padded apart, so sorting by the total alone leaves a window this small
    with about twice the padding.
    """
    total = lengths[rows].sum(1)
    rows = rows[np.argsort(total, kind="stable")]
    before = np.cumsum(lengths[rows].sum(1)) - lengths[rows].sum(1)
    strips = max(1, round(2 * (total.sum() / batch_tokens) ** 0.5))
    strip = before * strips // max(1, int(total.sum()))
    return rows[np.lexsort((np.where(strip % 2, -1, 1) * lengths[rows, 0], strip))]


def _check_groups(names: NDArray[np.str_], schedule: Schedule) -> None:
    present, counts = np.unique(names, return_counts=True)
    for name, count in zip(present.tolist(), counts.tolist(), strict=True):
        if name not in schedule.names:
            message = f'the schedule says nothing of "{name}", which has {quantity(count, "row")}'
            raise PomonaError(message, where="schedule", remedy="give it a weight; 0 leaves it out")
