"""From a recipe to steps: what every lever builds on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pomona.documents import read_json
from pomona.models import count_parameters, locate
from pomona.recipe.graph import Estimate, Node, RunInput, Step, Work
from pomona.recipe.inputs import (
    check_groups,
    group_counts,
    record_sources,
    resolve,
    tokenizer_folder,
)
from pomona.recipe.schema import Pretrain, Recipe, Train
from pomona.recipe.steps.answering import evaluate
from pomona.recipe.steps.controls import copy_sources, find_neighbours
from pomona.recipe.steps.tables import make_table
from pomona.recipe.steps.training import finetune, pretrain

GUESS = 1000.0  # items, where counting takes too long
TOKENS_PER_ITEM = 30  # for estimates before anything has been tokenised
# What training computes in, by the recipe's `dtype`; by the device for the others.
TRAINED_IN = {"float32": "float32", "bfloat16": "bfloat16", "mixed": "bfloat16"}


@dataclass(frozen=True)
class Measurement:
    """A variant to be entered: the step that answered for it and the model it needed, if any.
    `bound` marks what no system can reach.

    `again` are the answers of the same variant trained with other seeds.
    """

    lever: str
    variant: str
    answers: Step
    model: Node | None
    baselines: tuple[str, ...]
    bound: bool = False
    again: tuple[Step, ...] = ()


@dataclass
class RunPlan:
    """The steps of a recipe, built once each, and the measurements that make its ledger."""

    recipe: Recipe
    folder: Path
    measurements: list[Measurement] = field(default_factory=list)
    _steps: dict[str, Step] = field(default_factory=dict)
    _counts: dict[tuple[Any, ...], Mapping[str, int] | None] = field(default_factory=dict)

    def step(
        self,
        name: str,
        work: Work,
        params: Mapping[str, Any],
        inputs: Mapping[str, Node],
        estimate: Estimate = Estimate(),  # noqa: B008 - frozen
    ) -> Step:
        """A step, or one made before that does the same, whatever its name."""
        step = Step(name, work, params, inputs, estimate)
        return self._steps.setdefault(step.key, step)

    def measure(
        self,
        lever: str,
        variant: str,
        answers: Step,
        model: Node | None,
        baselines: tuple[str, ...],
        bound: bool = False,
    ) -> None:
        """Enter a variant in the ledger, compared with each of `baselines`."""
        self.measurements.append(Measurement(lever, variant, answers, model, baselines, bound))

    def measure_trained(
        self, lever: str, variant: str, make: Callable[[int], Step], baselines: tuple[str, ...]
    ) -> str:
        """Enter a variant whose model `make` trains from a seed, once for each seed of the recipe.

        Gives the name it stands under: where another variant is the same models, theirs.
        """
        models = [make(seed) for seed in self.seeds]
        same = [one.variant for one in self.measurements if one.model is models[0]]
        if same:
            return same[0]
        answers, *again = [
            self.evaluate(self.named(variant, seed), model)
            for seed, model in zip(self.seeds, models, strict=True)
        ]
        measured = Measurement(lever, variant, answers, models[0], baselines, again=tuple(again))
        self.measurements.append(measured)
        return variant

    @property
    def seeds(self) -> range:
        """The seeds of every fine-tuning."""
        first = self.recipe.seed
        return range(first, first + (self.recipe.train.seeds if self.recipe.train else 1))

    def named(self, variant: str, seed: int) -> str:
        """Name of a variant's step, with the seed where there are several."""
        return f"{variant} seed {seed}" if len(self.seeds) > 1 else variant

    def table(self, name: str, spec: Any, per_group: int | None = None) -> Step:
        """The items of `spec` (task, train or pretrain): its records and conditions over those of
        `data`.
        """
        data = self.recipe.data
        params = {
            "prompt": data.prompt,
            "completion": data.completion,
            "group": data.group,
            "source": data.source,
            "cluster": getattr(spec, "cluster", None),
            "groups": data.groups,
            "where": {**data.where, **spec.where},
            "per_group": per_group,
            "on_error": data.on_error,
        }
        sources = record_sources(spec.records or data.records, self.folder)
        self.group_counts(name, spec)
        inputs = {f"records-{i:04d}": RunInput(path.name, path) for i, path in enumerate(sources)}
        return self.step(name, make_table, params, inputs)

    @cached_property
    def items(self) -> Step:
        """The test items."""
        return self.table("test items", self.recipe.task, self.recipe.task.per_group)

    @cached_property
    def training(self) -> Step | None:
        """The training items, for the recipes that train."""
        train, pretrain = self.recipe.train, self.recipe.pretrain
        if train:
            return self.table("training items", train, train.per_group)
        return self.table("pretraining items", pretrain) if pretrain else None

    @cached_property
    def learned(self) -> Step | None:
        """The items that groups are counted in, from head to tail, where any are named."""
        return self.training or self.memory

    def model(self, uri: str) -> Node:
        """A model by its URI; one that `pretrain` makes is a step."""
        made = self.recipe.pretrain
        if made and uri in made.sizes:
            return self._pretrained(made, uri)
        return RunInput(uri, locate(resolve(self.folder, uri)))

    def _pretrained(self, made: Pretrain, name: str) -> Step:
        size = made.sizes[name]
        folder = tokenizer_folder(made.tokenizer, self.folder)
        rate = made.learning_rate
        settings = self._settings(made) | {
            "tokens": made.tokens,
            "learning_rate": rate[name] if isinstance(rate, dict) else rate,
            "weight_decay": made.weight_decay,
        }
        params = {
            "size": size.model_dump(),
            "context": made.context,
            "max_tokens": made.max_tokens,
            "checkpoints": made.marks.get(name, []),
            "temperature": made.temperature,
            "settings": settings,
        }
        vocabulary = len(read_json(folder / "tokenizer.json")["model"]["vocab"])
        layer = 4 * size.hidden**2 + 3 * size.hidden * size.intermediate
        weights = vocabulary * size.hidden + size.layers * layer
        inputs = {
            "items": self.table("pretraining items", made),
            "tokenizer": RunInput(made.tokenizer, folder),
        }
        cost = Estimate("train", 6.0 * weights * made.tokens, 2.0 * weights)
        return self.step(f"pretrain {name}", pretrain, params, inputs, cost)

    def parameters(self, node: Node) -> float:
        """Weights of a model, roughly for one that is still to be made."""
        if isinstance(node, RunInput):
            return float(count_parameters(node.path))
        if "size" in node.params:
            return node.estimate.disk / 2
        models = (node for name, node in node.inputs.items() if name.startswith("model"))
        return self.parameters(next(models))

    @cached_property
    def copies(self) -> Step:
        """The test items answered by their sources."""
        params = {"metric": self.recipe.task.metric}
        return self.step("copy the sources", copy_sources, params, {"items": self.items})

    @cached_property
    def memory(self) -> Step | None:
        """What the base may have learned from: all training items, however few of them the levers
        use; None where the recipe names none.
        """
        asked, train = self.recipe.controls, self.recipe.train
        learned = train or self.recipe.pretrain
        if asked.records or asked.where is not None:
            where = (learned.where if learned else {}) if asked.where is None else asked.where
            records = asked.records or (learned.records if learned else None)
            asked = asked.model_copy(update={"where": where, "records": records})
            return self.table("items to look up", asked)
        name = "pretraining items" if train is None else "training items"
        limited = train is not None and train.per_group is not None
        return self.table(f"all {name}" if limited else name, learned) if learned else None

    @cached_property
    def neighbours(self) -> Step | None:
        """The nearest of them to every test item."""
        if self.memory is None:
            return None
        params = {"neighbours": self.recipe.controls.neighbours}
        inputs = {"items": self.items, "memory": self.memory}
        return self.step("find the nearest items", find_neighbours, params, inputs)

    @property
    def targets(self) -> list[Step]:
        """What the ledger is computed from: the answers of every measurement, and the training
        items it counts.
        """
        answers = [step for m in self.measurements for step in (m.answers, *m.again)]
        return [*answers, *([self.training] if self.training else [])]

    def answering(self) -> Mapping[str, Any]:
        """Parameters of every step in which a model reads or writes."""
        return {"dtype": self.recipe.dtype, "chat": self.recipe.chat, "seed": self.recipe.seed}

    def estimate(self, kind: str, model: Node, items: float, samples: int = 1) -> Estimate:
        """Cost of reading or answering `items` items."""
        flops = 2.0 * self.parameters(model) * TOKENS_PER_ITEM * items * samples
        return Estimate(kind, flops, 200.0 * items * samples)

    @cached_property
    def training_count(self) -> float:
        """Training items, for estimates."""
        train = self.recipe.train
        return self.count("training items", train, train.per_group) if train else 0.0

    @cached_property
    def item_count(self) -> float:
        """Test items, for estimates."""
        return self.count("test items", self.recipe.task, self.recipe.task.per_group)

    def count(self, name: str, spec: Any, per_group: int | None) -> float:
        """Items of the table `name`, for estimates."""
        counts = self.group_counts(name, spec)
        if counts is None:
            return GUESS
        wanted = self.recipe.data.groups or counts
        return float(sum(min(counts[group], per_group or counts[group]) for group in wanted))

    def group_counts(self, name: str, spec: Any) -> Mapping[str, int] | None:
        """Rows of each group of a table, see `table`; None where counting takes too long. Raises
        PomonaError for values, columns and groups that no row has.
        """
        data = self.recipe.data
        where = {**data.where, **spec.where}
        sources = record_sources(spec.records or data.records, self.folder)
        key = (*sources, repr(where))
        if key not in self._counts:
            cluster = getattr(spec, "cluster", None)
            self._counts[key] = group_counts(name, sources, data, where, cluster)
        return self._counts[key]

    def require_groups(self, groups: Iterable[str], where: str) -> None:
        """Raise PomonaError for a group without training items."""
        counts = self.group_counts("training items", self.recipe.train)
        if counts is not None:
            check_groups(groups, counts, where)

    def evaluate(self, variant: str, model: Node) -> Step:
        """Greedy answers of `model` to the test items."""
        task = self.recipe.task
        params = {**self.answering(), "metric": task.metric, "max_new_tokens": task.max_new_tokens}
        inputs = {"items": self.items, "model": model}
        cost = self.estimate("generate", model, self.item_count)
        return self.step(f"evaluate {variant}", evaluate, params, inputs, cost)

    def _settings(self, spec: Train | Pretrain) -> dict[str, Any]:
        names = ("batch_tokens", "warmup", "schedule", "optimizer")
        dtype = TRAINED_IN.get(self.recipe.dtype or "")
        own = {"seed": self.recipe.seed, "dtype": dtype}
        return own | {name: getattr(spec, name) for name in names}

    def finetune(
        self,
        variant: str,
        items: Step,
        seed: int,
        share: float = 1.0,
        *,
        work: Work = finetune,
        **more: Any,
    ) -> Step:
        """The base model continued on `items` from `seed` for `share` of the recipe's token budget.

        `work` does it when the order of training is not the usual one; it gets the parameters
        `more`.
        """
        train = self.recipe.train
        assert train is not None  # the schema asks for it where a lever trains
        budget: dict[str, float] = {"flops": (train.flops or 0) * share}
        if train.tokens:
            budget = {"tokens": int(train.tokens * share)}
        own = {"learning_rate": train.learning_rate, "seed": seed}
        base = self.model(self.recipe.base)
        weights = self.parameters(base)
        flops = budget.get("flops") or 6.0 * weights * budget["tokens"]
        cost = Estimate("train", flops, 2.0 * weights)
        params = {
            "chat": self.recipe.chat,
            "max_tokens": train.max_tokens,
            "settings": self._settings(train) | budget | own,
            **more,
        }
        inputs = {"items": items, "model": base}
        return self.step(f"fine-tune {self.named(variant, seed)}", work, params, inputs, cost)
