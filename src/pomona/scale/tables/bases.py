"""Which models were really pretrained: a list of patterns, ours or a user's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from pathlib import Path

from pomona.errors import PomonaError
from pomona.records import Where, as_text, read
from pomona.scale.tables.columns import Published

OURS = Path(__file__).with_name("bases.csv")  # written by hand, each family with its source


def base_rows(published: Published, bases: Where | None) -> tuple[list[bool], str]:
    """Which rows are pretrained bases, and what says so: the table's column where there is one and
    no list was given, else the list.

    A list is a table with a column model, of names or patterns as shells have them
    (`EleutherAI/pythia-*`); case does not count.

    Raises:
        PomonaError: the list cannot be read, or has no column model or no rows.
    """
    if bases is None and "base" in published.truths:
        column = published.columns["base"]
        return [one is True for one in published.truths["base"]], f'column "{column}"'
    source = OURS if bases is None else bases
    pattern = re.compile("|".join(translate(one.lower()) for one in _patterns(source)))
    said = "the list of Pomona" if bases is None else f"the list {source}"
    return [pattern.fullmatch(model.lower()) is not None for model in published.models], said


def _patterns(source: Where) -> Sequence[str]:
    records = read(source)
    where = source if isinstance(source, str | Path) else records.source.where
    if "model" not in records.column_names:
        remedy = "give a table with a column model, of names or patterns such as ORG/NAME-*"
        raise PomonaError('there is no column "model"', where=where, remedy=remedy)
    found = [one for one in as_text(records.select("model").to_table()["model"]).to_pylist() if one]
    if not found:
        raise PomonaError("there are no rows", where=where, remedy="give a name or pattern a row")
    return found
