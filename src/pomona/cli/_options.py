"""Options that several commands share, and those of them that were given."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

Flag = Annotated[bool, Parameter(show_default=False)]
Inputs = Annotated[list[str], Parameter(help="Files, globs, dataset folders or s3:// addresses.")]
Engine = Annotated[
    Literal["native", "ray"], Parameter(help="native, or ray: the work is spread over a cluster.")
]
Count = Annotated[int | None, Parameter(validator=Number(gte=1))]


def given(*groups: Any, **options: Any) -> dict[str, Any]:
    """The options that are not None, those of groups (dataclasses, or None) among them."""
    found = {
        field.name: getattr(group, field.name)
        for group in groups
        if group is not None
        for field in fields(group)
    }
    return {name: value for name, value in {**found, **options}.items() if value is not None}


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Banding:
    """Which rows bands of a score are taken from."""

    within: str | None = None
    """Column; take the band of each of its values."""
    group: str | None = None
    """Column whose values the floor protects, where the band is global."""
    floor: int = 0
    """Rows of each group that stay whatever their score."""
    size: str = "rows"
    """What the share is of: rows, bytes, or a column of sizes."""
    seed: int = 0
    """Seed of random bands."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Reading:
    """How models read texts that they score."""

    chat: Flag = False
    """Prompts become user messages in the model's chat template."""
    context: int | None = None
    """Tokens of a window; the model's when left out."""
    device: str | None = None
    """cpu, cuda, ..."""
    dtype: str = "float32"
    """float32 or bfloat16."""
    seed: int = 0
    """Seed."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Merging:
    """How merges are made, not what they are."""

    seed: int | None = None
    """Seed in place of the recipe's."""
    threads: Count = None
    """CPU threads; all when left out."""
    memory: str | None = None
    """Memory of a merge to stay within, such as 1GiB."""
    shard_size: str | None = None
    """Largest file of a result, such as 5GB."""
    overwrite: Flag = False
    """Write over folders that are there."""
