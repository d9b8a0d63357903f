"""Corrupted copies of rows, beside which the real ones are seen to be learnt, and the table with
them behind it.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.scores.job import Layout, chunks, columns_in
from pomona.errors import PomonaError
from pomona.records import Batches, Derived, Filter, Records


@dataclass(frozen=True)
class Probes:
    """Corrupted copies of pairs: `rows` int64 `[m]` they were made from, ascending, with their
    `inputs` and `completions`.
    """

    rows: NDArray[np.int64]
    inputs: list[str]
    completions: list[str]


def make_probes(
    inputs: Sequence[str],
    completions: Sequence[str],
    *,
    n: int = 250,
    rate: float = 0.3,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> dict[str, Probes]:
    """`n` pairs each whose input is "corrupted" and whose completion is a "random label"; no row is
    used twice.

    Corrupted: each letter, with probability `rate`, becomes another letter of the inputs. Random
        label: the completion of another row (of
    the same group, where `groups` `[rows]` are given) with another text; rows of a group with a
    single text are not chosen for it. Give the raw text: a template is filled afterwards. Raises
    PomonaError when there are too few rows, or too few with another text.
    """
    if 2 * n > len(inputs):
        raise PomonaError(
            f"{2 * n} probes of {len(inputs)} rows", where="make_probes", remedy="use a smaller n"
        )
    draw = random.Random(seed)
    members: dict[str, list[int]] = {}
    for row in range(len(inputs)):
        members.setdefault(groups[row] if groups else "", []).append(row)
    able = [
        row
        for rows in members.values()
        if any(completions[row] != completions[rows[0]] for row in rows)
        for row in rows
    ]
    if len(able) < n:
        message = f"{len(able)} rows have another completion in their group, and {n} are wanted"
        raise PomonaError(message, where="make_probes", remedy="use a smaller n, or larger groups")
    second = sorted(draw.sample(able, n))
    first = sorted(draw.sample(sorted({*range(len(inputs))} - {*second}), n))
    letters = sorted({letter for text in inputs for letter in text if letter.isalpha()})
    corrupted = [_corrupt_text(inputs[row], letters, rate, draw) for row in first]
    labels = [
        _another(row, completions, members[groups[row] if groups else ""], draw) for row in second
    ]
    return {
        "corrupted": Probes(
            np.array(first, np.int64), corrupted, [completions[row] for row in first]
        ),
        "random label": Probes(np.array(second, np.int64), [inputs[row] for row in second], labels),
    }


def _corrupt_text(text: str, letters: Sequence[str], rate: float, draw: random.Random) -> str:
    def other(letter: str) -> str:
        while (drawn := draw.choice(letters)) == letter and len(letters) > 1:
            pass
        return drawn

    return "".join(
        other(letter) if letter.isalpha() and draw.random() < rate else letter for letter in text
    )


def _another(
    row: int, completions: Sequence[str], members: Sequence[int], draw: random.Random
) -> str:
    for _ in range(20):
        completion = completions[draw.choice(members)]
        if completion != completions[row]:
            return completion
    return draw.choice(
        [completions[member] for member in members if completions[member] != completions[row]]
    )


@dataclass(frozen=True)
class Corrupted:
    """Corrupted copies to score: `table` in the order of `kinds`, from which column, and rows and
    groups of the input.
    """

    table: pa.Table
    kinds: dict[str, Probes]
    corrupt: str
    rows: int
    groups: Counter[str]


@dataclass(frozen=True)
class Followed(Derived):
    """Records and, behind them, a table with the same columns."""

    table: pa.Table

    def stream(self, columns: Sequence[str], keep: Filter) -> Batches:
        """See `Source`."""
        yield from self.records.batches()
        yield from self.table.cast(self.schema).to_batches()


def corrupt_rows(
    records: Records, layout: Layout, corrupt: str | None, n: int, seed: int
) -> Corrupted:
    """Read what is to be corrupted, corrupt `n` pairs either way, and put them into copies of their
    rows.

    Raises PomonaError when a row lacks something, there are too few, or one column must be named.
    """
    assert layout.prompt is not None and layout.completion is not None
    label = _only(layout.completion, records, "completion", "give a column, or a template of one")
    corrupt = corrupt or _only(
        layout.prompt, records, "prompt", "name the one to spoil: --corrupt COLUMN"
    )
    if corrupt not in columns_in(layout.prompt, records) or corrupt == label:
        raise PomonaError(
            f'"{corrupt}" is not a column of the prompt alone',
            where="corrupt",
            remedy=f"it is {layout.prompt!r}",
        )
    texts, labels, groups = [], [], []
    for rows in chunks(records, Layout("", corrupt, label, None, layout.group)):
        texts += rows.prompts or []
        labels += rows.texts
        groups += rows.groups or []
    kinds = make_probes(texts, labels, n=n, groups=groups or None, seed=seed)
    copies = records.select(*layout.columns(records)).to_table()
    parts = []
    for probes in kinds.values():
        part = copies.take(probes.rows)
        for name, values in ((corrupt, probes.inputs), (label, probes.completions)):
            part = part.set_column(
                part.column_names.index(name), pa.field(name, pa.string()), pa.array(values)
            )
        parts.append(part)
    return Corrupted(pa.concat_tables(parts), kinds, corrupt, len(texts), Counter(groups))


def _only(part: str, records: Records, where: str, remedy: str) -> str:
    names = sorted(columns_in(part, records))
    if len(names) != 1:
        raise PomonaError(f"{part!r} has {len(names)} columns", where=where, remedy=remedy)
    return names[0]
