"""What a model costs by its configuration: its modules, the ways in which training compute is
counted, what else that compute would buy, where it stands against thresholds, and its energy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona.documents import read_json
from pomona.errors import PomonaError
from pomona.models import (
    Shape,
    gguf_header,
    gguf_shape,
    names,
    present,
    read_config,
    training_flops,
)
from pomona.places import check_outputs
from pomona.scale.compute.configuration import count_modules
from pomona.scale.compute.energy import Efficiency, efficiency
from pomona.scale.compute.equivalents import Answering, Rival, equivalents, rival
from pomona.scale.compute.modules import Modules, attended
from pomona.scale.compute.page import check_page, write_page, write_thresholds
from pomona.scale.compute.results import (
    Convention,
    ModelFlops,
    ModuleCost,
    Planned,
    SizesFlops,
    Training,
)
from pomona.scale.compute.tensors import count_tensors
from pomona.scale.compute.thresholds import Standings, day_of, standings

_MOST = 1e30  # tokens, samples, answers: products of all of them are still numbers
_CONTEXT = 2048  # where the caller says nothing: as Hoffmann et al. (2022) trained
_SUPPORTED = "give a folder with config.json, gguf:PATH, or a name of the catalogue"


def flops(
    model: str | Path | Mapping[str, Planned],
    *,
    context: int | None = None,
    masked: bool = False,
    tokens: float | None = None,
    prompt: int = 256,
    answer: int = 256,
    samples: int = 16,
    answers: int = 100_000,
    against: str | None = None,
    date: str | None = None,
    energy: Efficiency | None = None,
    page: str | Path | None = None,
) -> ModelFlops | SizesFlops:
    """Count what a model costs, module by module, from its configuration alone.

    Beside the count stand the usual ways to estimate it, what the training's compute would buy
    otherwise, where it stands against compute thresholds in laws, and its energy. No weights are
    read: a folder with config.json is enough.

    Args:
        model: Folder with config.json, gguf:PATH, a name of the catalogue, or a recipe.
        context: Tokens of a sequence; what the model was made for, at most 2048, when left out.
        masked: Count the masked half of attention too, as where there is no causal kernel.
        tokens: Tokens that it is trained on; what its training.json says when left out.
        prompt: Tokens of a prompt.
        answer: Tokens of an answer.
        samples: Samples of each answer.
        answers: Answers in all.
        against: A larger model to compare samples with, named as the first.
        date: The day for which thresholds are told, such as 2026-01-01; today when left out.
        energy: How many operations a joule buys.
        page: Folder to write a page with pictures into.

    Raises:
        PomonaError: there is no such model, its architecture is not known here, its configuration
            lacks an entry or holds one that is no size, or a number is out of range.
    """
    answering = _answering(prompt, answer, samples, answers)
    _positive(context=context, tokens=tokens)
    if page is not None:
        there = [] if isinstance(model, Mapping) else [_path(str(model))]
        check_outputs({"--page": page}, there, folders=["--page"])
        check_page(Path(page))
    told = energy or efficiency()
    counting = _Counting(context, masked, tokens, answering, against, day_of(date), told)
    if isinstance(model, Mapping):
        sizes = [counting.of(name, one.model, one.tokens) for name, one in model.items()]
        result: ModelFlops | SizesFlops = SizesFlops(sizes)
    else:
        result = counting.of(str(model), str(model), None)
    if page is not None:
        write_page(result, Path(page))
    return result


def thresholds(
    flop: float | None = None,
    *,
    date: str | None = None,
    original: float | None = None,
    page: str | Path | None = None,
) -> Standings:
    """Show which compute thresholds are in force, and where a training stands.

    The table is written by hand from the sources that it names, and says when it was last checked.

    Args:
        flop: What the training took, floating-point operations, fine-tuning included.
        date: The day to tell of, such as 2026-01-01; today when left out.
        original: What the training of the model took that this one modifies.
        page: Folder to write a page with pictures into.

    Raises:
        PomonaError: a number is out of range, or there is no such day.
    """
    if page is not None:
        check_page(Path(page))
    result = standings(flop, day_of(date), original)
    if page is not None:
        write_thresholds(result, Path(page))
    return result


def _answering(prompt: int, answer: int, samples: int, answers: int) -> Answering:
    _positive(prompt=prompt, answer=answer, samples=samples, answers=answers)
    return Answering(prompt, answer, samples, answers)


def _positive(**numbers: float | None) -> None:
    for name, value in numbers.items():
        if value is not None and not 0 < value <= _MOST:
            told = f"{value}" if isinstance(value, float) or value <= 0 else "too large"
            remedy = f"give a positive number, at most {_MOST:.0e}"
            raise PomonaError(f"{name} is {told}", where="flops", remedy=remedy)


@dataclass(frozen=True)
class _Counting:
    context: int | None
    masked: bool
    tokens: float | None
    answering: Answering
    against: str | None
    day: Any
    efficiency: Efficiency

    def of(self, name: str, model: str | Mapping[str, Any], tokens: float | None) -> ModelFlops:
        """All of one model."""
        counted, folder = modules_of(model, name)
        context = self.context or min(counted.longest or _CONTEXT, _CONTEXT)
        rows = _rows(counted, context, self.masked)
        forward = sum(row.forward_flops for row in rows) if counted.shape else None
        training = _training(folder, self.tokens or tokens, forward)
        spent = None if training is None else training.flops
        bought = against = None
        if counted.shape is not None and forward is not None:
            bought = equivalents(counted.shape, forward, spent, self.answering)
            against = self._rival(counted.shape, spent)
        kwh = self.efficiency.energy
        each = None if bought is None else bought.answer_flops
        every = None if bought is None else bought.answers_flops
        notes = [*counted.notes, *self._notes(counted, context)]
        return ModelFlops(
            model=name,
            architecture=counted.architecture,
            context=context,
            masked=self.masked,
            parameters=_parameters(counted),
            modules=rows,
            forward_flops=forward,
            training_flops=None if forward is None else 3 * forward,
            conventions=_conventions(counted, context, self.masked, forward),
            training=training,
            equivalents=bought,
            against=against,
            thresholds=standings(spent, self.day),
            efficiency=self.efficiency,
            energy={"training": kwh(spent), "answer": kwh(each), "answers": kwh(every)},
            notes=notes,
        )

    def _rival(self, shape: Shape, spent: float | None) -> Rival | None:
        if self.against is None:
            return None
        counted, folder = modules_of(self.against, self.against)
        if counted.shape is None:
            message = "does not say how wide its attention is"
            raise PomonaError(message, where=self.against, remedy=_SUPPORTED)
        context = self.context or min(counted.longest or _CONTEXT, _CONTEXT)
        rows = _rows(counted, context, self.masked)
        its = _training(folder, None, sum(row.forward_flops for row in rows))
        other = (self.against, counted.shape, None if its is None else its.flops)
        return rival(shape, spent, self.answering, other)

    def _notes(self, counted: Modules, context: int) -> list[str]:
        notes = []
        if counted.longest is not None and context > counted.longest:
            notes.append(
                f"Counted for {context:,} positions; the model was made for {counted.longest:,}."
            )
        if any(one.window is not None for one in counted.modules):
            notes.append(
                "Answers, equivalents and the convention with attention take every layer for one "
                "without a window, as recipes do; the count by module does not."
            )
        if any(one.active < one.parameters for one in counted.modules):
            notes.append("Of a mixture N counts the weights that a token meets.")
        return notes


def modules_of(model: str | Mapping[str, Any], name: str) -> tuple[Modules, Path | None]:
    """The modules of a model, and its folder where it has one."""
    if isinstance(model, Mapping):
        return count_modules(model, name), None
    path = _path(model)
    if model.startswith("gguf:") or path.suffix == ".gguf":
        metadata, tensors = gguf_header(path)
        return count_tensors(metadata, tensors, gguf_shape(metadata, tensors), path), None
    folder = path.parent if path.name == "config.json" else path
    if not folder.is_dir():
        raise PomonaError("there is no such model here", where=model, remedy=_SUPPORTED)
    config = read_config(folder)
    if not config:
        raise PomonaError("is missing", where=folder / "config.json", remedy=_SUPPORTED)
    return count_modules(config, folder / "config.json"), folder


def _path(model: str) -> Path:
    if model in names():
        return present(model)
    scheme, _, rest = model.partition(":")
    return Path(os.path.expanduser(rest if scheme in {"gguf", "hf"} else model))  # noqa: PTH111


def _rows(counted: Modules, context: int, masked: bool) -> list[ModuleCost]:
    costs = [(one, one.forward(context, masked=masked)) for one in counted.modules]
    return [
        ModuleCost(one.name, one.layers, one.parameters, one.active, cost, 3 * cost)
        for one, cost in costs
    ]


def _parameters(counted: Modules) -> dict[str, int]:
    return {
        "total": counted.parameters,
        "active": counted.active,
        "embedding": counted.embedding,
        "non_embedding": counted.active - counted.embedding,
    }


def _conventions(
    counted: Modules, context: int, masked: bool, forward: float | None
) -> list[Convention]:
    whole, body = counted.active, counted.active - counted.embedding
    exact = None if forward is None else 3 * forward
    shape = counted.shape
    reach = attended(context, None, masked=masked)
    attention = None if shape is None else training_flops(shape, 1, reach)
    multiplied = sum(one.multiplied for one in counted.modules)
    ways = [
        ("6N, all weights", whole, 6.0 * whole),
        ("6N, without embeddings", body, 6.0 * body),
        ("with attention", None if shape is None else shape.body + shape.output, attention),
        ("exact", multiplied, exact),
    ]
    return [
        Convention(name, n, cost, cost / exact if cost is not None and exact else None)
        for name, n, cost in ways
    ]


def _training(folder: Path | None, tokens: float | None, forward: float | None) -> Training | None:
    """What a training took: by the tokens given, else by the training.json of its folder."""
    said = {}
    if folder is not None and tokens is None and (folder / "training.json").is_file():
        said = read_json(folder / "training.json", remedy="give the tokens, or take it away")
    count = tokens if tokens is not None else _number(said.get("tokens"))
    spent = _number(said.get("flops"))
    if count is not None and spent is not None:
        return Training(count, spent, "training.json")
    if count is None or forward is None:
        return None
    return Training(count, 3 * forward * count, "counted by module")


def _number(value: Any) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if known and 0 < value < 1e300 else None
