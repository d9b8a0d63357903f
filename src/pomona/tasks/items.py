"""Rows become items: a prompt to answer, the reference to compare with, and the group the result is
broken down by.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields
from hashlib import sha256

import numpy as np
import pyarrow as pa

from pomona.errors import PomonaError, nearest

COLUMNS = ("id", "prompt", "completion", "group", "source", "cluster")  # of items in a table


@dataclass(frozen=True)
class Items:
    """Parallel lists of n items. `ids` are unique and do not depend on the order of the rows;
    `sources` are what the prompts ask about, and items of one of `clusters` are resampled together.
    """

    ids: list[str]
    prompts: list[str]
    completions: list[str]
    groups: list[str]
    sources: list[str]
    clusters: list[str]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Sequence[int] | np.ndarray) -> Items:
        """The items at `rows`, in that order."""
        columns = [getattr(self, field.name) for field in fields(self)]
        return Items(*([column[int(i)] for i in rows] for column in columns))

    def to_table(self) -> pa.Table:
        """Columns id, prompt, completion, group, source and cluster."""
        lists = (getattr(self, field.name) for field in fields(self))
        return pa.table(dict(zip(COLUMNS, lists, strict=True)))

    @classmethod
    def from_table(cls, table: pa.Table) -> Items:
        """The inverse of `to_table`."""
        return cls(*(table.column(name).to_pylist() for name in COLUMNS))


def fields_of(template: str) -> set[str]:
    """Names of the columns a template such as `"{lang}: {text}"` uses. Raises PomonaError when it
    cannot be read.
    """
    try:
        return {name for _, name, _, _ in string.Formatter().parse(template) if name}
    except ValueError as error:
        message, remedy = f"cannot be read: {error}", "write {{ for a literal brace"
        raise PomonaError(message, where=f"template {template!r}", remedy=remedy) from None


def source_of(prompt: str, group: str | None) -> str:
    """The template of what a prompt asks about: its only column that is not the group, without the
    words around it; or else the prompt itself.
    """
    asked = fields_of(prompt) - {group}
    return "{" + asked.pop() + "}" if len(asked) == 1 else prompt


def items_from(
    table: pa.Table,
    prompt: str,
    completion: str,
    group: str | None,
    *,
    source: str | None = None,
    cluster: str | None = None,
) -> Items:
    """Fill the templates row by row. Rows with a null in a used column, or an empty completion, are
    refused with their number.

    `source` is `source_of` the prompt unless given; without a column `cluster` every item is one of
    its own. Rows that come out the same (group, prompt, completion) are kept once.
    """
    source = source_of(prompt, group) if source is None else source
    needed = fields_of(prompt) | fields_of(completion) | fields_of(source)
    needed |= {name for name in (group, cluster) if name}
    for name in sorted(needed - set(table.column_names)):
        raise PomonaError(f'there is no column "{name}"', remedy=nearest(name, table.column_names))
    by_id: dict[str, tuple[str, ...]] = {}
    for number, row in enumerate(table.select(sorted(needed)).to_pylist(), 1):
        where, remedy = f"row {number}", "fill the value or drop the row"
        empty = [name for name in needed if row[name] is None]
        if empty:
            raise PomonaError(f'column "{empty[0]}" is null', where=where, remedy=remedy)
        of = str(row[group]) if group else "all"
        filled = (of, prompt.format_map(row), completion.format_map(row))
        if not filled[2].strip():
            raise PomonaError("the completion is empty", where=where, remedy=remedy)
        id_ = sha256("\x1f".join(filled).encode()).hexdigest()[:16]
        together = str(row[cluster]) if cluster else id_
        by_id.setdefault(id_, (*filled, source.format_map(row), together))
    ids = sorted(by_id)
    groups, prompts, completions, *rest = ([by_id[i][k] for i in ids] for k in range(5))
    return Items(ids, prompts, completions, groups, *rest)


def limit(items: Items, per_group: int | None, groups: Sequence[str] | None = None) -> Items:
    """At most `per_group` items a group — the same ones whenever the group has them — in the order
    of their ids.

    Raises PomonaError naming a wanted group that has no items.
    """
    wanted = set(groups or items.groups)
    taken: Counter[str] = Counter()
    rows = []
    for row, group in enumerate(items.groups):
        if group in wanted and (per_group is None or taken[group] < per_group):
            taken[group] += 1
            rows.append(row)
    for group in sorted(wanted - set(taken)):
        raise PomonaError(f'group "{group}" has no items', remedy=nearest(group, set(items.groups)))
    if not rows:
        raise PomonaError("there are no items", remedy="check `where` and `groups`")
    return items.take(rows)
