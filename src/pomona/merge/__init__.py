"""The merging lever: one checkpoint out of several, without a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.merge.adapters import (
        CombinedAdapter as CombinedAdapter,
        combine_adapters as combine_adapters,
    )
    from pomona.merge.engine.run import (
        merge_many as merge_many,
        merge_plan as merge_plan,
        tensors as tensors,
    )
    from pomona.merge.extract import Extraction as Extraction, extract_adapter as extract_adapter
    from pomona.merge.merging import merge as merge
    from pomona.merge.moe.run import build_moe as build_moe
    from pomona.merge.plan import MergeResult as MergeResult
    from pomona.merge.planning.models import locate_model as locate_model
    from pomona.merge.planning.planner import plan_merge as plan_merge
    from pomona.merge.transplant import (
        Transplant as Transplant,
        transplant_vocabulary as transplant_vocabulary,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "adapters": "CombinedAdapter combine_adapters",
        "engine.run": "merge_many merge_plan tensors",
        "extract": "Extraction extract_adapter",
        "merging": "merge",
        "moe.run": "build_moe",
        "plan": "MergeResult",
        "planning.models": "locate_model",
        "planning.planner": "plan_merge",
        "transplant": "Transplant transplant_vocabulary",
    },
)
