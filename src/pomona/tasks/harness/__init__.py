"""Tasks of lm-evaluation-harness (Gao et al. 2021), by name or YAML file, through its own package:
its documents, prompts, filters and metrics, our models, our intervals.

A task file is code: lm-eval runs the Python functions that it names (`!function`), and so does
this. Read one before you load it, as you would a script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.tasks.harness.loading import (
        harness_model as harness_model,
        harness_task as harness_task,
    )
    from pomona.tasks.harness.task import (
        HarnessAnswers as HarnessAnswers,
        HarnessMetric as HarnessMetric,
        HarnessScore as HarnessScore,
        HarnessTask as HarnessTask,
        StoredMetric as StoredMetric,
        evaluate as evaluate,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "loading": "harness_model harness_task",
        "task": "HarnessAnswers HarnessMetric HarnessScore HarnessTask StoredMetric evaluate",
    },
)
