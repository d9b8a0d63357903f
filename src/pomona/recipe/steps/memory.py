"""The memory lever's work: what was learned from is looked up, shown, remembered by states, or
stands among the candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from pomona.errors import PomonaError
from pomona.files import write_json
from pomona.ledger import Meter
from pomona.memory import choose_among, leave_one_out, shown_in_training, with_examples
from pomona.models import prefill_flops
from pomona.recipe.steps import Cost, StepContext
from pomona.recipe.steps.answering import About, load_model, write_answers
from pomona.recipe.steps.controls import nearest_of, read_neighbours
from pomona.recipe.steps.measuring import Measures
from pomona.recipe.steps.pools import drawing, read_pools
from pomona.recipe.steps.results import read_result, read_rows, with_seconds, write_serving
from pomona.recipe.steps.tables import read_items, write_items
from pomona.tasks import Items

THRESHOLDS = tuple(round(0.3 + 0.05 * step, 2) for step in range(14))  # to 0.95


def remember_states(step: StepContext) -> Cost:
    """The states that a model has at every token of the answers in the memory."""
    from pomona.models.torch import Datastore

    memory = read_items(step.inputs["memory"])
    model = load_model(step, step.inputs["model"])
    with Meter() as meter:
        rows = (memory.prompts, memory.completions, memory.groups)
        path, dtype = step.out / "states.safetensors", step.params["keys"]
        store = Datastore.of_answers(model, *rows, out=path, dtype=dtype)
        spread = store.spread(step.params["k"], seed=step.params["seed"])
    if not np.isfinite(spread):
        remedy = "give the memory more rows"
        raise PomonaError("no group has two states", where="levers.memory.states", remedy=remedy)
    write_json(step.out / "spread.json", spread)
    read = [len(ids) for ids in model.codec.prompts(memory.prompts)]
    lengths = np.array(read, np.float64) + len(store.tokens) / len(memory)
    flops = float(prefill_flops(model.shape, lengths).sum())
    return Cost(flops, int(lengths.sum()), meter.cpu_seconds, meter.wall_seconds)


def show_neighbours(step: StepContext) -> Cost:
    """The items with their nearest items of the memory, and the answers of these, before their
    prompts.
    """
    items, memory = read_items(step.inputs["items"]), read_items(step.inputs["memory"])
    p = step.params
    with Meter() as meter:
        found = read_neighbours(step.inputs["neighbours"] / "neighbours.parquet", p["shown"])
        rows = [
            [row for row, like in zip(near["rows"], near["similarity"], strict=True)
             if like >= p["least"]]
            for near in found
        ]  # fmt: skip
        _write_shown(step, items, memory, rows)
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def show_in_training(step: StepContext) -> Cost:
    """Training items with others of them before their prompts, as test items will have them: none
    that is nearly a copy, sometimes none at all, sometimes one that is further away.
    """
    items, p = read_items(step.inputs["items"]), step.params
    with Meter() as meter:
        found = leave_one_out(items.sources, items.groups, p["shown"] + 2)
        rows = shown_in_training(found, p["shown"], least=p["least"], seed=p["seed"])
        _write_shown(step, items, items, rows)
    flops = found.flops_once + float(found.flops.sum())
    return Cost(flops, 0, meter.cpu_seconds, meter.wall_seconds)


def _write_shown(
    step: StepContext, items: Items, memory: Items, rows: Sequence[Sequence[int]]
) -> None:
    columns = {"prompt": memory.prompts, "completion": memory.completions}
    prompts = with_examples(items.prompts, rows, columns, form=step.params["form"])
    write_items(step.out, replace(items, prompts=prompts))


@dataclass(frozen=True)
class Threshold:
    """What `threshold.json` says: the similarity from which a neighbour's answer is taken, and the
    metric of the validation items at each that was tried.
    """

    least: float
    tried: dict[str, float]


def choose_threshold(step: StepContext) -> Cost:
    """The similarity from which it is best, on these items, to answer as the nearest neighbour was
    answered; the lower of equals.
    """
    items = read_items(step.inputs["items"])
    measures = Measures.of(step, items)
    lead = measures.metrics[0]
    with Meter() as meter:
        found, answers = _beside(step, items)
        ours = measures.leading(answers)
        theirs = measures.leading(_looked_up(found, answers))
        nearest, sign = nearest_of(found), 1 if lead.higher_is_better else -1
        tried = {
            least: float(lead.aggregate(np.where((nearest >= least)[:, None], theirs, ours).sum(0)))
            for least in THRESHOLDS
        }
        best = max(THRESHOLDS, key=lambda least: (sign * tried[least], -least))
    said = {f"{least:g}": value for least, value in tried.items()}
    write_json(step.out / "threshold.json", asdict(Threshold(best, said)))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def look_up_or_answer(step: StepContext) -> Cost:
    """The nearest neighbour's answer where that is near, and elsewhere the answer that is there."""
    items, p = read_items(step.inputs["items"]), step.params
    with Meter() as meter:
        least = p["least"]
        if least is None:
            least = read_result(step.inputs["threshold"] / "threshold.json", Threshold).least
        found, answers = _beside(step, items)
        near = nearest_of(found) >= least
        theirs = _looked_up(found, answers)
        taken = [other if at else own for at, own, other in zip(near, answers, theirs, strict=True)]
        about = read_result(step.inputs["answers"] / "answers.json", About)
        write_answers(step, items, taken, about.shape)
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)


def _beside(step: StepContext, items: Items) -> tuple[list[dict[str, Any]], list[str]]:
    """The nearest neighbour of each item, and the answers that a system gave to them."""
    found = read_neighbours(step.inputs["neighbours"] / "neighbours.parquet", 1)
    rows: pa.Table = read_rows(step.inputs["answers"] / "answers.parquet", "id", "answer")
    given = dict(zip(rows["id"].to_pylist(), rows["answer"].to_pylist(), strict=True))
    return found, [given[id_] for id_ in items.ids]


def _looked_up(found: Sequence[dict[str, Any]], answers: Sequence[str]) -> list[str]:
    pairs = zip(found, answers, strict=True)
    return [row["answers"][0] if row["answers"] else answer for row, answer in pairs]


def choose_candidate(step: StepContext) -> Cost:
    """One of what was drawn, what the neighbours were answered with, and the source: the one that
    is nearest to what was drawn and to the neighbours' answers, which weigh by their similarity.
    """
    items, p = read_items(step.inputs["items"]), step.params
    about, rows = read_pools(step.inputs["pools"], p["n"])
    found = read_neighbours(step.inputs["neighbours"] / "neighbours.parquet", p["neighbours"])
    with Meter() as meter:
        chosen = choose_among(
            Measures.of(step, items).between,
            [row["answers"] for row in rows],
            [row["answers"] for row in found],
            [row["similarity"] for row in found],
            sources=items.sources if p["far"] is not None else None,
            far=p["far"],
            strength=p["strength"],
            above=p["above"],
        )
        write_answers(step, items, chosen.texts, about.shape)
    told = drawing(about, items, rows)
    write_serving(step.out, with_seconds(told, meter.cpu_seconds / len(items)))
    return Cost(cpu_seconds=meter.cpu_seconds, wall_seconds=meter.wall_seconds)
