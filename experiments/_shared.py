"""What the experiments in this folder share: the ladder's languages as items of a split."""

from __future__ import annotations

from pathlib import Path

from pomona import records, tasks
from pomona.recipe import load_recipe

ROOT = Path(__file__).parents[1]
DATA = load_recipe(ROOT / "examples/ladder.yaml").data


def items_of(split: str, per_group: int | None = None) -> tasks.Items:
    """Items of one split of `ui` in the 28 languages of the ladder."""
    rows = (
        records.read(ROOT / "src/pomona/assets/ui/ui.parquet")
        .where(split=split, lang=DATA.groups)
        .to_table()
    )
    return tasks.limit(tasks.items_from(rows, DATA.prompt, DATA.completion, DATA.group), per_group)
