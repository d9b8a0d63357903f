"""From a recipe to steps: what every lever builds on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

from pomona._lazy import function_named
from pomona.documents import read_json
from pomona.errors import PomonaError
from pomona.recipe.asked import lacking
from pomona.recipe.asking import (
    count_weights,
    draw_pools,
    find_model,
    is_asked,
    is_judged,
    judge_pools,
)
from pomona.recipe.graph import Estimate, Node, RunInput, Step, Work, answering
from pomona.recipe.inputs import tokenizer_folder, trained_before
from pomona.recipe.judging import judged, poll_step, win_steps
from pomona.recipe.rows import Tables
from pomona.recipe.schema import Pretrain, Train
from pomona.recipe.steps import Served
from pomona.recipe.steps.answering import evaluate
from pomona.recipe.steps.controls import copy_sources
from pomona.recipe.steps.sampling import choose, draw
from pomona.recipe.steps.scoring import (
    choose_at_random,
    measure_loss,
    score_items,
    score_task,
)
from pomona.recipe.steps.training import finetune, pretrain
from pomona.recipe.system import Lists, Measurement, System, TrainingRun, family, pool_name
from pomona.sample import Strategy
from pomona.tasks import Metric, metric, metrics

GREEDY = Strategy()
Led = tuple[Mapping[str, Node], Mapping[str, Any]]  # inputs and parameters that lead answers
TOKENS_PER_ITEM = 30  # for estimates before anything has been tokenised
# What training computes in, by the recipe's `dtype`; by the device for the others.
TRAINED_IN = {"float32": "float32", "bfloat16": "bfloat16", "mixed": "bfloat16"}


@dataclass
class RunPlan(Tables):
    """The steps of a recipe, built once each, and the systems that make its ledger. `says` is what
    servers tell of their models, by URI; `of_torch` has the models that levers do more with than
    asking, `names` what the recipe calls a model that was there before; `experts` are trainings by
    name that a lever lets others use, and `notes` what the ledger says beside its entries.
    """

    says: Mapping[str, str] = field(default_factory=dict)
    systems: dict[str, System] = field(default_factory=dict)
    of_torch: set[str] = field(default_factory=set)
    names: dict[Node, str] = field(default_factory=dict)
    experts: dict[str, Callable[[System, int], Step]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _same: dict[str, str] = field(default_factory=dict)
    _models: dict[str, Node] = field(default_factory=dict)
    _weights: dict[Node, float | None] = field(default_factory=dict)

    def measure(self, system: System) -> None:
        """Enter a system in the ledger. Where another is the same weights and nothing else, it
        stands there already, under that name.
        """
        if system.is_plain:
            model = self.weights(system, system.seeds[0])
            for name, other in self.systems.items():
                if other.is_plain and self.weights(other, other.seeds[0]) is model:
                    self._same[system.name] = name
                    return
        self.systems.setdefault(system.name, system)

    def called(self, name: str) -> str:
        """The name under which a system stands in the ledger."""
        return self._same.get(name, name)

    def measurements(self, items: Step | None = None) -> list[Measurement]:
        """Every system answering the test items, or others."""
        return [self.measured(system, items or self.items) for system in self.systems.values()]

    def measured(self, system: System, items: Step) -> Measurement:
        """A system answering some items."""
        baselines = dict.fromkeys([self.recipe.base, *system.against])
        model = self.weights(system, system.seeds[0]) if system.weights else None
        return Measurement(
            system,
            tuple(self.answers(system, items, seed) for seed in system.seeds),
            model,
            tuple(map(self.called, baselines)),
        )

    def rung(self, uri: str) -> System:
        """A model of the ladder as it is. Of a harness task each request has settings of its
        own.
        """
        singly = self.converses or self.harness is not None
        return System(uri, "scale", lambda _: self.model(uri), singly=singly)

    @cached_property
    def base(self) -> System:
        """What the levers start from."""
        return self.rung(self.recipe.base)

    def weights(self, system: System, seed: int) -> Node:
        """The model of a system that has one."""
        assert system.weights is not None
        return system.weights(seed)

    def answers(self, system: System, items: Step, seed: int) -> Step:
        """The system's answers to some items, its weights trained from `seed`."""
        if not self.reads_texts:
            given = self._scored(system, items, seed)
        elif system.answers is not None:
            given = system.answers(items, seed)
        elif system.is_greedy and not is_asked(system, self.weights(system, seed)):
            asked, model = self._asked(system, items), self.weights(system, seed)
            name, led = self.on(self.seeded(system, seed), items), self._led(system, model)
            given = self._evaluate(name, asked, model, led)
        else:
            strategy, pools = self.pools(system, items, seed)
            take = system.take or partial(self.choose, strategy, "strategy")
            if is_judged(system):
                # A judge reads answers without their lists, and is not shown one either.
                asked = items if system.lists else self._asked(system, items)
                model = self.weights(system, seed)
                take = partial(judge_pools, self, system, asked, model)
            given = take(strategy.n, items, pools)
        for then in system.then:
            given = then(items, given, seed)
        return given

    @property
    def needs_torch(self) -> bool:
        """Whether torch runs one of the models, which servers and llama.cpp do without it."""
        there = [node for node in self.names if isinstance(node, RunInput)]
        return self.recipe.pretrain is not None or any(node.path.is_dir() for node in there)

    @cached_property
    def reads_texts(self) -> bool:
        """Whether the task's metrics read what models answer, and not how probable texts are."""
        if self.harness:
            return self.harness.needs == "generate"
        return set(self.recipe.task.reads.values()) == {"text"}

    @property
    def chooses(self) -> bool:
        """Whether items are answered by the most probable of their options, and nothing else."""
        if self.harness:
            return self.harness.chooses
        return set(self.recipe.task.reads.values()) == {"options"}

    def _scored(self, system: System, items: Step, seed: int) -> Step:
        """How probable a system finds texts. Raises PomonaError for one that is more than weights
        and prompts.
        """
        read = self.recipe.task.harness.task if self.recipe.task.harness else self.metrics[0]
        if system.answers == self.by_chance:
            return self.by_chance(items, seed)
        shown = system.sees and self.harness
        if shown or not replace(system, sees=()).is_plain:
            message = f'the lever "{system.lever}" changes answers, and "{read}" reads none'
            remedy = "leave it out: what is measured here is how probable a model finds texts"
            raise PomonaError(message, where=system.name, remedy=remedy)
        model = self.weights(system, seed)
        if isinstance(model, Served) and (wrong := lacking(f'"{read}"', model.uri, "score")):
            raise PomonaError(wrong, where=system.name)
        inputs = {"items": self._asked(system, items), "model": model}
        params = {**self.answering(), **self.compared}
        cost = self.estimate("score", model, self.item_count)
        name, work = self.on(self.seeded(system, seed), items), score_items
        return self.step(
            f"score {name}", score_task if self.harness else work, params, inputs, cost
        )

    def by_chance(self, items: Step, _: int = 0) -> Step:
        """One option of every item, taken by chance."""
        params = {**self.compared, "seed": self.recipe.seed}
        name = self.on("choose options at random", items)
        return self.step(name, choose_at_random, params, {"items": items})

    def pools(self, system: System, items: Step, seed: int) -> tuple[Strategy, Step]:
        """The strategy by which a system draws answers, and what it draws for some items. Raises
        PomonaError where they cannot be drawn so.
        """
        asked, model = self._asked(system, items), self.weights(system, seed)
        if system.states and is_asked(system, model):
            wrong = "states are looked up in answers that torch draws for many items at once"
            raise PomonaError(wrong, where=system.name, remedy="stack them on other levers")
        led = self._led(system, model)
        pools = self._pools(system, asked, model, led, items)
        bare = system.lists.taken_off(items, pools) if system.lists else pools
        return system.strategy or GREEDY, bare

    def _led(self, system: System, model: Node) -> Led:
        """Inputs and parameters of a step whose answers are led by states."""
        if system.states is None:
            return {}, {}
        return {"states": system.states.store(model)}, {"states": dict(system.states.settings)}

    def _asked(self, system: System, items: Step) -> Step:
        if system.sees and (self.converses or (self.harness and self.recipe.chat)):
            message = f'the lever "{system.lever}" changes prompts that are text'
            remedy = "leave it out: these prompts are conversations"
            raise PomonaError(message, where=system.name, remedy=remedy)
        for see in system.sees:
            items = see(items)
        return items

    def choose(self, strategy: Strategy, how: str, n: int, items: Step, pools: Step) -> Step:
        """One of the first `n` answers of each pool as a strategy takes it, or by chance, or a
        bound.
        """
        params = {
            "strategy": replace(strategy, n=n).name,
            "choose": how,
            **self.compared,
            "seed": self.recipe.seed,
        }
        label = strategy.name if how == "strategy" else f"{pool_name(strategy)}/{how}"
        inputs = {"items": items, "pools": pools}
        return self.step(self.on(f"choose {label}", items), choose, params, inputs)

    def _pools(self, system: System, asked: Step, model: Node, led: Led, items: Step) -> Step:
        """The largest pool of its family that a system draws from this model for these items: it is
        drawn once, because the small ones are its beginnings.
        """
        drawn = family(system.strategy or GREEDY)
        alike = [
            (other.strategy or GREEDY).n
            for other in self.systems.values()
            if (not other.is_greedy or is_asked(other, model))
            and other.weights
            and family(other.strategy or GREEDY) == drawn
            and other.sees == system.sees
            and other.lists == system.lists
            and other.states == system.states
            and other.context == system.context
            and any(self.weights(other, seed) is model for seed in other.seeds)
        ]
        n = max([(system.strategy or GREEDY).n, *alike])
        pool, (states, settings) = replace(drawn, n=n), led
        if is_asked(system, model):
            return draw_pools(self, system, asked, model, pool, items)
        params = {
            **self.answering(),
            **settings,
            "pool": pool.name,
            "max_new_tokens": self.recipe.task.max_new_tokens + system.room,
        }
        cost = self.estimate("generate", model, self.item_count, n, system.lists)
        inputs = {"items": asked, "model": model, **states}
        if system.lists and system.lists.begun:
            inputs["begun"] = system.lists.begun(asked, model)
        return self.step(self.on(f"sample {pool_name(pool)}", items), draw, params, inputs, cost)

    def made_from(self, name: str, system: System) -> str:
        """Name of a step that makes weights out of those of a system that is not the base."""
        return name if system.name == self.recipe.base else f"{name} from {system.name}"

    @property
    def metrics(self) -> list[Any]:
        """The metrics of the task as steps take them; the first one leads."""
        if self.harness:
            return [one.name for one in self.harness_metrics]
        return [one.given for one in self.recipe.task.metric]

    def metric(self, place: int, references: int | None) -> Metric:
        """The task's `place`th metric, which compares what steps have stored; `references` as
        `pomona.tasks.metric` has them.
        """
        if self.harness:
            return self.harness_metrics[place]
        return metric(self.metrics[place], references=references)

    @cached_property
    def compared(self) -> dict[str, Any]:
        """Parameters of a step that compares answers: the metrics, and what their code is."""
        if self.harness:
            return {"metrics": self.metrics}
        code = [one for one in self.metrics if ":" in repr(one)]
        for one in self.recipe.task.metric:
            for name in (one.name, one.extract or ""):
                if ":" in name and not name.startswith("regex:"):
                    function_named(name, beside=self.folder)
        signatures = [one.signature for one in metrics(self.metrics, references=None)]
        return {"metrics": self.metrics} | ({"signatures": signatures} if code else {})

    @property
    def seeds(self) -> range:
        """The seeds of every fine-tuning."""
        first = self.recipe.seed
        return range(first, first + (self.recipe.train.seeds if self.recipe.train else 1))

    def named(self, variant: str, seed: int) -> str:
        """Name of a step that trains, with the seed where there are several."""
        return f"{variant} seed {seed}" if len(self.seeds) > 1 else variant

    def seeded(self, system: System, seed: int) -> str:
        """Name of a system, with the seed where it is trained with several."""
        return f"{system.name} seed {seed}" if len(system.seeds) > 1 else system.name

    def model(self, uri: str) -> Node:
        """A model by its URI; one that `pretrain` makes is a step."""
        made = self.recipe.pretrain
        if made and uri in made.sizes:
            return self._pretrained(made, uri, max(made.tokens))
        if uri not in self._models:
            self._models[uri] = node = find_model(self, uri)
            self.names[node] = uri
        return self._models[uri]

    @cached_property
    def training_runs(self) -> list[TrainingRun]:
        """Every training of sizes from nothing and the checkpoints beside them, each with a loss on
        the test items; none where these are no texts to complete.
        """
        made, recipe = self.recipe.pretrain, self.recipe
        if made is None or self.harness or self.converses:
            return []
        named = {recipe.base, *(rung.model for rung in recipe.ladder or ())}
        sizes = [name for name in made.sizes if len(made.tokens) > 1 or name in named]
        runs = [
            TrainingRun(name, tokens, self._pretrained(made, name, tokens))
            for name in sizes
            for tokens in sorted(made.tokens)
        ]
        there = [(uri, trained_before(uri, self.model(uri))) for uri in made.also or ()]
        return runs + [TrainingRun(uri, None, model) for uri, model in there]

    def loss(self, run: TrainingRun) -> Step:
        """The loss of a training on the test items."""
        cost = self.estimate("score", run.model, self.item_count)
        inputs = {"items": self.items, "model": run.model}
        own = isinstance(run.model, Step)
        name = run.model.name.removeprefix("pretrain ") if own else run.size
        return self.step(f"loss of {name}", measure_loss, self.answering(), inputs, cost)

    def _pretrained(self, made: Pretrain, name: str, tokens: int) -> Step:
        size = made.sizes[name]
        folder = tokenizer_folder(made.tokenizer, self.folder)
        rate = made.learning_rate
        settings = self._settings(made) | {
            "tokens": tokens,
            "learning_rate": rate[name] if isinstance(rate, dict) else rate,
            "weight_decay": made.weight_decay,
        }
        params = {
            "size": size.model_dump(),
            "context": made.context,
            "max_tokens": made.max_tokens,
            "checkpoints": made.marks.get(name, []) if tokens == max(made.tokens) else [],
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
        cost = Estimate("train", 6.0 * weights * tokens, 2.0 * weights)
        label = name if tokens == max(made.tokens) else f"{name} on {tokens} tokens"
        return self.step(f"pretrain {label}", pretrain, params, inputs, cost)

    def parameters(self, node: Node) -> float | None:
        """Weights of a model, roughly for one that is still to be made; None where nobody told."""
        if not isinstance(node, Step):
            if node not in self._weights:
                self._weights[node] = count_weights(self, node)
            return self._weights[node]
        if "size" in node.params:
            return node.estimate.disk / 2
        models = (node for name, node in node.inputs.items() if name.startswith("model"))
        return self.parameters(next(models))

    def copies(self, items: Step, _: int = 0) -> Step:
        """Items answered by their sources."""
        params, inputs = self.compared, {"items": items}
        return self.step(self.on("copy the sources", items), copy_sources, params, inputs)

    @property
    def needed(self) -> list[Step]:
        """What every entry of the ledger needs, beside answers."""
        more = [self.learned] if self.learned else []
        if self.memory is not None:
            more += [self.memory, self.neighbours(self.items)]
        return [self.items, *([self.copies(self.items)] if self.reads_texts else []), *more]

    @property
    def targets(self) -> list[Step]:
        """What the ledger is computed from."""
        answers = (step for m in self.measurements() for step in m.answers)
        wins = (step for m in judged(self) for step in win_steps(self, m))
        polls = filter(None, [poll_step(self)])
        return [*polls, *self.needed, *answers, *wins, *map(self.loss, self.training_runs)]

    def answering(self) -> Mapping[str, Any]:
        """Parameters of every step in which a model reads or writes."""
        return {"dtype": self.recipe.dtype, "chat": self.recipe.chat, "seed": self.recipe.seed}

    def estimate(
        self, kind: str, model: Node, items: float, samples: int = 1, lists: Lists | None = None
    ) -> Estimate:
        """Cost of reading or answering `items` items, with lists of markers where there are any."""
        weights = None if isinstance(model, Served) else self.parameters(model)
        more = (lists.prompt, lists.answer) if lists else (0, 0)
        length = TOKENS_PER_ITEM + sum(more)
        flops = None if weights is None else 2.0 * weights * length * items * samples
        # Nobody knows before how long the texts are that are scored: as long as FLOPs take them.
        read = TOKENS_PER_ITEM * items * samples
        tokens = answering(items, samples, more) if kind == "generate" else lambda _: (read, 0.0)
        return Estimate(kind, flops, 200.0 * items * samples, tokens=tokens)

    def _evaluate(self, name: str, asked: Step, model: Node, led: Led) -> Step:
        """Greedy answers of `model`."""
        task, (states, settings) = self.recipe.task, led
        params = {
            **self.answering(),
            **settings,
            **self.compared,
            "max_new_tokens": task.max_new_tokens,
        }
        inputs = {"items": asked, "model": model, **states}
        cost = self.estimate("generate", model, self.item_count)
        return self.step(f"evaluate {name}", evaluate, params, inputs, cost)

    def _settings(self, spec: Train | Pretrain) -> dict[str, Any]:
        names = ("batch_tokens", "warmup", "schedule", "optimizer")
        dtype = TRAINED_IN.get(self.recipe.dtype or "")
        own = {"seed": self.recipe.seed, "dtype": dtype}
        # Left out where there is none: it would be part of every step's key.
        pruned = {"pruning": spec.pruning.model_dump()} if spec.pruning else {}
        return own | {name: getattr(spec, name) for name in names} | pruned

    def finetune(
        self,
        variant: str,
        items: Step,
        seed: int,
        system: System,
        share: float = 1.0,
        *,
        work: Work = finetune,
        **more: Any,
    ) -> Step:
        """The system's weights continued on `items` from `seed` for `share` of the recipe's token
        budget.

        `work` does it when the order of training is not the usual one; it gets the parameters
        `more`.
        """
        train = self.recipe.train
        assert train is not None  # the schema asks for it where a lever trains
        if self.converses:
            remedy = "leave levers that train out, or give the prompts as text"
            message = "prompts that are conversations cannot be trained on"
            raise PomonaError(message, where="data.prompt", remedy=remedy)
        budget: dict[str, float] = {"flops": (train.flops or 0) * share}
        if train.tokens:
            budget = {"tokens": int(train.tokens * share)}
        own = {"learning_rate": train.learning_rate, "seed": seed}
        base = self.weights(system, seed)
        weights = self.parameters(base) or 0.0
        flops = budget.get("flops") or 6.0 * weights * budget["tokens"]
        cost = Estimate("train", flops, 2.0 * weights)
        params = {
            "chat": self.recipe.chat,
            "max_tokens": train.max_tokens,
            "settings": self._settings(train) | budget | own,
            **more,
        }
        inputs = {"items": items, "model": base}
        name = self.made_from(f"fine-tune {self.named(variant, seed)}", system)
        return self.step(name, work, params, inputs, cost)
