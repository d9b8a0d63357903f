"""The merging lever: one checkpoint out of several, without a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.merge.checkpoints.files import Tensors as Tensors
    from pomona.merge.engine.forecast import MergeResult as MergeResult
    from pomona.merge.engine.run import merge as merge
    from pomona.merge.engine.run import merge_many as merge_many
    from pomona.merge.engine.run import merge_plan as merge_plan
    from pomona.merge.engine.run import tensors as tensors
    from pomona.merge.extract import Extraction as Extraction
    from pomona.merge.extract import extract_adapter as extract_adapter
    from pomona.merge.planning.plan import plan_merge as plan_merge

_HOMES = {
    "Extraction": "extract",
    "MergeResult": "engine.forecast",
    "Tensors": "checkpoints.files",
    "extract_adapter": "extract",
    "merge": "engine.run",
    "merge_many": "engine.run",
    "merge_plan": "engine.run",
    "plan_merge": "planning.plan",
    "tensors": "engine.run",
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
