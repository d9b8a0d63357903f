"""The trainings of a run as a table, `training-runs.csv`: sizes, tokens and the loss on the test
items, which is what `pomona scale fit` reads.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

from pomona.documents import read_json
from pomona.models import Shape
from pomona.recipe.accounts import Accounts
from pomona.recipe.graph import RunFolder
from pomona.recipe.inputs import number
from pomona.recipe.plan import RunPlan
from pomona.recipe.steps import checkpoint
from pomona.recipe.steps.results import made_here, read_result, read_statistics
from pomona.recipe.steps.scoring import LOSSES, SHAPE
from pomona.recipe.system import TrainingRun
from pomona.stats import Share, interval, value_of


def training_runs(plan: RunPlan, folder: RunFolder) -> str:
    """CSV with a row for each training and part of the test items (`part`: overall, tail, warm …),
    in the order of the sizes.

    `params` are all weights and `params_no_embedding` those outside of the input table; `loss` is
    in nats for a token of the completion, its end included, with the 95 % interval over items, or
    their clusters. What is not known is empty.
    """
    told = io.StringIO()
    rows = [row for run in plan.training_runs for row in _rows(plan, folder, run)]
    rows.sort(key=lambda row: (row["params"], row["tokens"] or 0))
    writer = csv.DictWriter(told, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return told.getvalue()


def _rows(plan: RunPlan, folder: RunFolder, run: TrainingRun) -> Iterator[dict[str, Any]]:
    accounts, at = Accounts(plan, folder, []), folder.result(plan.loss(run))
    with made_here(at):
        shape = read_result(at / SHAPE, Shape)
        losses = read_statistics(at / LOSSES, len(accounts.items))
    path = checkpoint(folder.result(run.model)) / "training.json"
    said = read_json(path) if path.is_file() else {}
    settings = said.get("settings") or {}
    for part, rows in accounts.rows.items():
        draws, own = accounts.draws(rows), losses[rows]
        nats, text = own[:, :2], own[:, 2:]
        low, high = interval(Share(), nats, draws)
        yield {
            "size": run.size,
            "part": part,
            "items": len(rows),
            "params": shape.parameters,
            "params_no_embedding": shape.parameters - shape.embedding,
            **{name: _whole(said.get(name)) for name in ("tokens", "unique_tokens")},
            "flops": number(said.get("flops")),
            "learning_rate": number(settings.get("learning_rate")),
            "seed": _whole(settings.get("seed")),
            "loss": value_of(Share(), nats),
            "loss_low": low,
            "loss_high": high,
            "bits_per_byte": value_of(Share(), text) / math.log(2),
        }


def _whole(value: Any) -> int | None:
    known = number(value)
    return None if known is None else int(known)
