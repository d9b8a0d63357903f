"""The merging lever: one checkpoint out of several, without a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.merge.checkpoint import Tensors as Tensors
    from pomona.merge.engine import merge as merge
    from pomona.merge.engine import merge_many as merge_many
    from pomona.merge.engine import merge_plan as merge_plan
    from pomona.merge.engine import tensors as tensors
    from pomona.merge.extract import Extraction as Extraction
    from pomona.merge.extract import extract_adapter as extract_adapter
    from pomona.merge.forecast import MergeResult as MergeResult
    from pomona.merge.planning import plan_merge as plan_merge

_HOMES = {
    "Extraction": "extract",
    "MergeResult": "forecast",
    "Tensors": "checkpoint",
    "extract_adapter": "extract",
    "merge": "engine",
    "merge_many": "engine",
    "merge_plan": "engine",
    "plan_merge": "planning",
    "tensors": "engine",
}
__all__ = [
    "Extraction",
    "MergeResult",
    "Tensors",
    "extract_adapter",
    "merge",
    "merge_many",
    "merge_plan",
    "plan_merge",
    "tensors",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
