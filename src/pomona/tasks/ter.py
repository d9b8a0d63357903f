"""Translation edit rate (Snover et al. 2006), equal to sacreBLEU's, which follows Tercom: the word
edits and shifts of phrases that turn an output into its reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.native import jit
from pomona.tasks._metrics import References, flat_references
from pomona.tasks.chrf import SACREBLEU

Ints = NDArray[np.int64]

_FAR = 1 << 40
_LONGEST, _FARTHEST, _BEAM, _CANDIDATES = 10, 50, 25, 1000  # Tercom's limits, and sacreBLEU's own
_NONE, _SAME, _OTHER, _ONLY_OUTPUT, _ONLY_REFERENCE = 0, 1, 2, 3, 4


@dataclass(frozen=True)
class Ter:
    """Edits per hundred words of the reference. Lower is better, and it can be above 100.

    The definition is sacreBLEU's default: case ignored, words between blanks, of several references
    the fewest edits over the mean length. `references` is how many an item has, None when it
    varies.
    """

    references: int | None = 1
    name = "ter"
    reads = "text"
    higher_is_better = False

    @property
    def signature(self) -> str:
        """The signature sacreBLEU prints for the same score."""
        how = f"case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:{SACREBLEU}"
        return f"nrefs:{self.references or 'var'}|{how}"

    def statistics(self, outputs: Sequence[str], references: References, /) -> NDArray[np.float64]:
        """(edits, words of the reference) of each item, float64 `[n, 2]`. Raises PomonaError as
        `flat_references` does.
        """
        pool, begin = flat_references(outputs, references, self.references)
        counts = np.ones(len(outputs), np.int64) if begin is None else np.diff(begin)
        owner = np.repeat(np.arange(len(outputs)), counts)
        if not len(pool):
            return np.zeros((0, 2))
        codes: list[int] = []
        starts = [0]
        for row, reference in zip(owner, pool, strict=True):
            ids: dict[str, int] = {}
            for text in (outputs[int(row)], reference):
                codes += [ids.setdefault(word, len(ids)) for word in text.lower().split()]
                starts.append(len(codes))
        bounds = np.array(starts, np.int64)
        found = edits(np.array(codes, np.int64), bounds)
        first = np.cumsum(counts) - counts
        lengths = np.add.reduceat(np.diff(bounds)[1::2], first) / counts
        return np.column_stack([np.minimum.reduceat(found, first), lengths]).astype(np.float64)

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """All edits over all words; without words in the references 100, or 0 without edits."""
        total, words = np.asarray(sums, np.float64)[..., 0], np.asarray(sums)[..., 1]
        return 100 * np.where(words > 0, total / np.where(words > 0, words, 1), total > 0)


@jit("TER")
def edits(codes: Ints, starts: Ints) -> Ints:
    """Edits of each pair, int64 `[pairs]`: string 2p is the output, 2p + 1 the reference, word ids
    of the pair end to end.
    """
    pairs = (starts.size - 1) // 2
    result = np.zeros(pairs, dtype=np.int64)
    for pair in range(pairs):
        output = codes[starts[2 * pair] : starts[2 * pair + 1]].copy()
        reference = codes[starts[2 * pair + 1] : starts[2 * pair + 2]]
        result[pair] = output.size if not reference.size else _edits(output, reference)
    return result


@jit("TER")
def _edits(output: Ints, reference: Ints) -> int:
    """Shifts as long as they save edits, and the edits that are left. Changes `output`."""
    cost = np.empty((output.size + 1, reference.size + 1), dtype=np.int64)
    step = np.empty(cost.shape, dtype=np.int8)
    best, scratch = np.empty_like(output), np.empty_like(output)
    rows = np.empty((2, reference.size + 1), dtype=np.int64)
    shifts = checked = 0
    while True:
        _distances(output, reference, cost, step)
        saved, checked = _shift(output, reference, cost, step, best, scratch, rows, checked)
        if checked >= _CANDIDATES or saved <= 0:
            return shifts + cost[output.size, reference.size]
        shifts += 1
        output[:] = best


@jit("TER")
def _band(row: int, words: int, other: int) -> tuple[int, int]:
    """The places of the reference that a row looks at: those around the diagonal, and in the last
    row all that follow.
    """
    ratio = other / words
    beam = _BEAM
    if ratio / 2 > _BEAM:
        beam = int(np.ceil(ratio / 2 + _BEAM))
    diagonal = int(np.floor(row * ratio))
    last = other + 1 if row == words else min(other + 1, diagonal + beam)
    return max(0, diagonal - beam), last


@jit("TER")
def _distances(output: Ints, reference: Ints, cost: Ints, step: NDArray[np.int8]) -> None:
    """Edits between all beginnings of the two, and the last step of each; of equal ones Tercom's
    first.
    """
    for at in range(reference.size + 1):
        cost[0, at], step[0, at] = at, _ONLY_REFERENCE
    for row in range(1, output.size + 1):
        cost[row], step[row] = _FAR, _NONE
        first, last = _band(row, output.size, reference.size)
        for at in range(first, last):
            if at == 0:
                cost[row, 0], step[row, 0] = cost[row - 1, 0] + 1, _ONLY_OUTPUT
                continue
            other = output[row - 1] != reference[at - 1]
            if cost[row, at] > cost[row - 1, at - 1] + other:
                cost[row, at] = cost[row - 1, at - 1] + other
                step[row, at] = _OTHER if other else _SAME
            if cost[row, at] > cost[row - 1, at] + 1:
                cost[row, at], step[row, at] = cost[row - 1, at] + 1, _ONLY_OUTPUT
            if cost[row, at] > cost[row, at - 1] + 1:
                cost[row, at], step[row, at] = cost[row, at - 1] + 1, _ONLY_REFERENCE


@jit("TER")
def _distance(output: Ints, reference: Ints, above: Ints, done: int, rows: Ints) -> int:
    """Edits of an output whose first `done` words end in the row `above` of the table."""
    rows[done % 2] = above
    for row in range(done + 1, output.size + 1):
        before, now = rows[(row - 1) % 2], rows[row % 2]
        first, last = _band(row, output.size, reference.size)
        # only what this row and the next one look at
        read = last if row == output.size else _band(row + 1, output.size, reference.size)[1]
        now[max(first - 1, 0) : read] = _FAR
        if first == 0:
            now[0] = before[0] + 1
        for at in range(max(first, 1), last):
            other = output[row - 1] != reference[at - 1]
            now[at] = min(before[at - 1] + other, before[at] + 1, now[at - 1] + 1, _FAR)
    return rows[output.size % 2, reference.size]


@jit("TER")
def _aligned(step: NDArray[np.int8], place: Ints, wrong: Ints, missed: Ints) -> None:
    """For each word of the reference the last word of the output up to it, -1 before the first;
    and which words of the output and of the reference are no match.
    """
    row, at = wrong.size, missed.size
    while row > 0 or at > 0:
        kind = step[row, at]
        if kind in (_SAME, _OTHER):
            row, at = row - 1, at - 1
            place[at] = row
            wrong[row] = missed[at] = kind == _OTHER
        elif kind == _ONLY_REFERENCE:
            at -= 1
            place[at], missed[at] = row - 1, 1
        else:
            row -= 1
            wrong[row] = 1


@jit("TER")
def _shift(
    output: Ints,
    reference: Ints,
    cost: Ints,
    step: NDArray[np.int8],
    best: Ints,
    scratch: Ints,
    rows: Ints,
    checked: int,
) -> tuple[int, int]:
    """The shift that saves most edits into `best`, what it saves, and how many were tried so far.
    Of equal ones the longest counts, then the first in the output, then the first target.
    """
    place = np.zeros(reference.size, dtype=np.int64)
    wrong, missed = np.zeros_like(output), np.zeros_like(reference)
    _aligned(step, place, wrong, missed)
    now = cost[output.size, reference.size]
    record = (-_FAR, 0, 0, 0)
    for start in range(output.size):
        for at in range(reference.size):
            if abs(at - start) > _FARTHEST:
                continue
            length = 0
            while (
                length < _LONGEST
                and start + length < output.size
                and at + length < reference.size
                and output[start + length] == reference[at + length]
            ):
                length += 1
                inside = start <= place[at] < start + length
                if inside or not (
                    wrong[start : start + length].any() and missed[at : at + length].any()
                ):
                    continue
                before = -1
                for offset in range(-1, length):
                    target = 0 if at + offset == -1 else place[at + offset] + 1
                    if target == before:
                        continue
                    before = target
                    done = _move(output, start, length, target, scratch)
                    saved = now - _distance(scratch, reference, cost[done], done, rows)
                    candidate = (saved, length, -start, -target)
                    checked += 1
                    if candidate > record:
                        record = candidate
                        best[:] = scratch
                if checked >= _CANDIDATES:
                    return (record[0] if record[0] > -_FAR else 0), checked
    return (record[0] if record[0] > -_FAR else 0), checked


@jit("TER")
def _move(words: Ints, start: int, length: int, target: int, out: Ints) -> int:
    """Move `length` words from `start` before the word `target`, or as far on inside of them; how
    many words at the beginning are as they were.
    """
    out[:] = words
    if target < start:
        out[target : target + length] = words[start : start + length]
        out[target + length : start + length] = words[target:start]
        return target
    end = target if target > start + length else min(length + target, words.size)
    out[start : end - length] = words[start + length : end]
    out[end - length : end] = words[start : start + length]
    return start
