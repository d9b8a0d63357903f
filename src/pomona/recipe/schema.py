"""What a recipe may say. The field descriptions are its reference: they become the JSON Schema."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from pomona.documents import StrictModel, problems
from pomona.recipe.asked import AskedModel, AskingBudget, is_served, lacking
from pomona.recipe.fields import (
    Counts,
    HarnessOrName,
    Mistakes,
    Names,
    Optimizer,
    Part,
    Positive,
    Pruning,
    Rate,
    RateOrRates,
    Schedule,
    Share,
    Text,
    Texts,
    Where,
    WinRate,
    checked,
)
from pomona.tasks import MetricOptions, OneOrMore, metric

RESAMPLES = 2000  # behind every interval, unless more are asked for or needed


def _rung(value: Any) -> Any:
    if not isinstance(value, str | dict):
        raise PydanticCustomError("expected", "a model URI or a mapping")
    return {"model": value} if isinstance(value, str) else value


class Data(StrictModel):
    """Where the rows come from and how a row becomes a prompt and its completion."""

    records: Names
    """Tables to read: the catalogue name "ui", a path or a glob, or a list of them."""
    prompt: Text = "{prompt}"
    """Template of the prompt; {column} is replaced by the row's value."""
    completion: Text = "{completion}"
    """Template of the text the model should answer."""
    source: Text | None = None
    """Template of what the prompt asks about: copying answers with it, and the nearest training
    items are found by it. The prompt's only column that is not the group, or else the prompt, when
    left out.
    """
    options: Text | None = None
    """Column of the answers that a question lets choose from."""
    group: Text | None = "group"
    """Column that results are broken down by; null for no groups."""
    groups: Texts | None = None
    """Use only these groups; all when left out."""
    where: Where = Field(default={})
    """Keep only rows whose column has this value, or one of these values."""
    on_error: Literal["stop", "reject"] = "stop"
    """A malformed row, or one without a value that templates and columns need, stops the run, or
    goes to `rejects.jsonl` in the step of its table.
    """


class Task(StrictModel):
    """What "better" means: the rows to answer and the metric."""

    harness: HarnessOrName | None = None
    """A task of lm-evaluation-harness in place of rows and metrics: its name, its YAML file, or
    how.
    """
    records: Names | None = None
    """Tables of the test rows; those of `data` when left out."""
    where: Where = Field(default={})
    """Keep only test rows with these values, beside the conditions of `data`."""
    cluster: Text | None = None
    """Column of what test items share, such as the source of translations: the items of one value
    are resampled together.
    """
    project: Text | None = None
    """Column of where rows come from, such as a project: a test item is warm where rows of its
    project are among those that the base may have learned from, and cold elsewhere.
    """
    metric: OneOrMore = Field(default=[MetricOptions(name="chrf")])
    """How an answer is compared with its reference: a metric, or several, of which the first one
    leads.
    """
    win_rate: WinRate | None = None
    """Also how often answers are better than the base's: by a judge, or by people's votes."""
    per_group: Positive | None = None
    """At most this many test items per group; all when left out."""
    tail: Annotated[int, Field(ge=0)] = 5
    """How many groups, those with the least training data, are also shown apart; 0 for none."""
    max_new_tokens: Positive = 128
    """Longest answer, in tokens."""
    resamples: Annotated[int, Field(ge=1000)] | None = None
    """Bootstrap resamples behind every interval; 2,000 when left out, and more where so many
    comparisons are made that with these none could be significant.
    """

    @model_validator(mode="after")
    def _check(self) -> Self:
        own = ("records", "where", "project", "metric", "win_rate", "per_group", "max_new_tokens")
        given = [name for name in own if name in self.model_fields_set] if self.harness else []
        text = 'is the harness task\'s own: take it away, or say what there is to say in "harness"'
        return checked(self, (((name,), f'"{name}" {text}') for name in given))

    @property
    def reads(self) -> dict[str, str]:
        """By metric what it reads of a model: text, or log-probabilities; of a task of the harness
        its package knows.
        """
        known = {one.name: one for one in self.metric if not self.harness}
        return {name: "text" if ":" in name else metric(name).reads for name in known}


class Validation(StrictModel):
    """The items on which choices are made, such as the steps of a stack: never those of the
    task.
    """

    harness: HarnessOrName | None = None
    """Another task of lm-evaluation-harness, where the task is one."""
    records: Names | None = None
    """Tables of these rows; those of `data` when left out."""
    where: Where = Field(default={})
    """Conditions of these rows, beside those of `data`."""
    per_group: Positive | None = None
    """At most this many items per group; all when left out."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.harness is None and "where" not in self.model_fields_set:
            raise problems([((), '"where" is missing in validation')])
        return self


class Forward(StrictModel):
    """Choose a stack step by step: on the validation items, always the lever with the most gain for
    its extra compute, as long as there is one whose gain is positive within the budget. The path is
    then measured once on the test items.
    """

    among: Texts | None = None
    """Variants to choose from, by their names in the ledger; those of all levers when left out,
    but for controls.
    """
    steps: Positive = 3
    """At most this many."""
    cost: Literal["flops", "money", "tokens", "seconds"] = "flops"
    """What a gain is paid in."""
    budget: Rate | None = None
    """At most this much of it beyond the base, in making and in answering `serve_items` items."""


def _forward(value: Any) -> Any:
    return {} if value == "forward" else value


class Controls(StrictModel):
    """What costs nearly nothing and must be beaten: copying the source, and what the nearest
    training items of the same group were answered with.
    """

    records: Names | None = None
    """Tables of the rows that the base may have learned from; those of `train` or `pretrain`, or
    else of `data`, when left out.
    """
    where: Where | None = None
    """Conditions of these rows, beside those of `data`; those of `train` or `pretrain` when left
    out. Where none of these is given, nothing is looked up.
    """
    neighbours: Positive = 5
    """The nearest items whose answers vote."""
    far: Share = 0.4
    """A test item is far where the similarity of its nearest training item is below this; there the
    vote answers by copying.
    """
    near: Share = 0.65
    """A test item is near where that similarity is at least this."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.far > self.near:
            raise problems([(("far",), f'"far" must be at most "near", which is {self.near}')])
        return self


class RungRecipe(StrictModel):
    """One size of the ladder."""

    model: Text
    """Model URI."""
    tokens: Positive | None = None
    """Tokens it was trained on, when its checkpoint does not say."""


RungOrModel = Annotated[RungRecipe, BeforeValidator(_rung, json_schema_input_type=str | RungRecipe)]


class Train(StrictModel):
    """How every fine-tuning of this recipe is done: the same budget for all of them."""

    records: Names | None = None
    """Tables of the training rows; those of `data` when left out."""
    where: Where = Field(default={})
    """Keep only training rows with these values, beside the conditions of `data`."""
    per_group: Positive | None = None
    """Learn from at most this many items per group; from all when left out."""
    tokens: Positive | None = None
    """Budget of each fine-tuning in training tokens; give this or `flops`."""
    flops: Rate | None = None
    """Budget of each fine-tuning in FLOPs; give this or `tokens`."""
    batch_tokens: Positive = 4096
    """Tokens of a batch."""
    learning_rate: Rate = 5e-4
    """Highest learning rate."""
    warmup: Part = 0.05
    """Share of the steps over which the learning rate rises."""
    schedule: Schedule = "cosine"
    """How the learning rate falls."""
    optimizer: Optimizer = "adamw"
    """Optimizer."""
    pruning: Pruning | None = None
    """Prune every fine-tuned model on the way."""
    max_tokens: Positive = 256
    """Longest example in tokens, prompt and completion; longer ones are left out."""
    seeds: Positive = 1
    """Train every variant with this many seeds; intervals then cover training too."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.tokens is None) == (self.flops is None):
            raise problems([((), 'the budget is "tokens" or "flops", one of them')])
        return self


class Size(StrictModel):
    """The shape of a model trained from nothing."""

    hidden: Positive
    """Width of the hidden state."""
    layers: Positive
    """Number of layers."""
    heads: Positive
    """Attention heads; divides `hidden`."""
    intermediate: Positive
    """Width inside the feed-forward part."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.hidden % self.heads:
            text = f"but {self.heads} does not divide {self.hidden}"
            raise problems([(("heads",), f'"heads" must divide "hidden", {text}')])
        return self


class Pretrain(StrictModel):
    """Train models of several sizes from nothing: the same data, order and tokens for all of
    them.
    """

    tokenizer: Text
    """Tokenizer: the name of an embedded one, or a folder."""
    records: Names | None = None
    """Tables of the training rows; those of `data` when left out."""
    where: Where = Field(default={})
    """Keep only training rows with these values, beside the conditions of `data`."""
    sizes: Annotated[dict[Text, Size], Field(min_length=1)]
    """Name of each model and its shape."""
    tokens: Counts
    """Training tokens of each model. With several counts each size is trained once for every one,
    from the beginning: the most make the models that a recipe names, and all are runs to which
    `pomona scale fit` fits what scale buys.
    """
    also: Names | None = None
    """Checkpoints that were trained in the same way before, which are such runs too: their
    `training.json` says for how many tokens.
    """
    temperature: Annotated[float, Field(ge=1)] = Field(
        default=1,
        description=(
            "A group of share p is drawn with share p^(1/temperature): above 1, small "
            "groups are shown more often."
        ),
    )
    batch_tokens: Positive = 4096
    """Tokens of a batch."""
    learning_rate: RateOrRates
    """Highest learning rate, or one for each size."""
    warmup: Part = 0.05
    """Share of the steps over which the learning rate rises."""
    schedule: Schedule = "cosine"
    """How the learning rate falls."""
    optimizer: Optimizer = "adamw"
    """Optimizer."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Weight decay."""
    pruning: Pruning | None = None
    """Prune every model on the way."""
    max_tokens: Positive = 256
    """Longest example in tokens, prompt and completion; longer ones are left out."""
    marks: dict[Text, Annotated[list[Share], Field(min_length=1)]] = Field(default={})
    """Shares of its training at which a model is also kept, by model."""
    context: Positive = 512
    """Longest text the models can read and write, in tokens."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        return checked(self, self._mistakes())

    def _mistakes(self) -> Mistakes:
        if len(set(self.tokens)) < len(self.tokens):
            yield ("tokens",), "a count stands twice"
        for name in self.also or ():
            if name in self.sizes:
                yield ("also",), f'"{name}" is one of the sizes'
        for name in self.marks:
            if name not in self.sizes:
                known = ", ".join(self.sizes)
                yield ("marks", name), f'"{name}" is not one of the sizes: {known}'
        rates = self.learning_rate if isinstance(self.learning_rate, dict) else None
        if rates is not None:
            for name in rates:
                if name not in self.sizes:
                    yield ("learning_rate", name), f'"{name}" is not one of the sizes'
            for name in self.sizes:
                if name not in rates:
                    yield ("learning_rate",), f'the learning rate of "{name}" is missing'
        if self.max_tokens > self.context:
            text = f'at most "context", which is {self.context}, not {self.max_tokens}'
            yield ("max_tokens",), f'"max_tokens" must be {text}'


class Recipe(StrictModel):
    """A task, the levers to measure on it, and the budget."""

    beside: ClassVar[Path] = Path()
    """The folder of its file, in which files are that it names."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Short name: letters, digits, dot, hyphen and underscore. The run is written to runs/NAME."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of everything random."""
    threads: Positive = 1
    """CPU threads."""
    device: Text | None = None
    """cpu, cuda, cuda:1 or mps; a GPU when there is one, if left out."""
    dtype: Literal["float32", "bfloat16", "float16", "mixed"] | None = None
    """Number type of models that answer; float32 on a CPU and bfloat16 on a GPU, if left out.
    Training follows it (float16 is for answers alone); if left out, it computes in bfloat16 where
    the device has instructions for that, and in float32 elsewhere.
    """
    chat: bool = False
    """Prompts become user messages in the tokenizer's chat template."""
    data: Data = Field(default_factory=lambda: Data.model_construct(records=[], group=None))
    """The rows and their templates; may be left out where the task is one of
    lm-evaluation-harness and nothing is learned.
    """
    task: Task
    """What is measured."""
    base: Text
    """URI of the model the levers start from."""
    ladder: Annotated[list[RungOrModel], Field(min_length=1)] | None = None
    """The same recipe trained at several sizes, smallest first; a rung may be just a model URI."""
    models: dict[Text, AskedModel] = Field(default={})
    """How models are asked, by the name or URI under which the recipe names them: servers with
    their prices and limits, for example.
    """
    budget: AskingBudget = AskingBudget()
    """What servers may cost this run."""
    serve_items: Positive = 100_000
    """Answered items over which the cost of answering is counted."""
    train: Train | None = None
    """How models are fine-tuned; needed by the levers data and merging."""
    levers: StrictModel = StrictModel()
    """The levers to measure."""
    stacks: list[Annotated[Texts, Field(min_length=2)]] = Field(default=[])
    """Variants of the levers on top of each other, by their names in the ledger, first to last;
    each step is measured. The first may be another size of the ladder, to begin from.
    """
    stack: (
        Annotated[
            Forward,
            BeforeValidator(_forward, json_schema_input_type=Literal["forward"] | Forward),
        ]
        | None
    ) = None
    """Also choose a stack: "forward", or how."""
    validation: Validation | None = None
    """What choices are made on; needed by `stack`."""
    pretrain: Pretrain | None = None
    """Train the ladder's models from nothing first."""
    controls: Controls = Controls()
    """The controls that every run measures beside the levers."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        return checked(self, self._mistakes())

    def uri(self, name: str) -> str:
        """The URI behind a model's name."""
        return self.asked(name).uri or name

    def asked(self, name: str) -> AskedModel:
        """How a model is asked."""
        return self.models.get(name, AskedModel())

    def unpriced(self, name: str) -> bool:
        """Whether the budget limits money, and nobody says what this model costs."""
        free = is_served(self.uri(name)) and self.asked(name).price is None
        return self.budget.money is not None and free

    def _mistakes(self) -> Mistakes:
        named = [self.base, *(rung.model for rung in self.ladder or [])]
        for name in dict.fromkeys(named):
            if self.unpriced(name):
                text = f'a budget of money needs the price of "{name}": give it under "models"'
                yield ("budget", "money"), text
        judge = self.task.win_rate and self.task.win_rate.judge
        if judge and self.unpriced(judge):
            text = f'a budget of money needs the price of "{judge}": give it under "models"'
            yield ("task", "win_rate", "judge"), text
        if self.stack and self.validation is None:
            yield (
                ("stack",),
                'a stack is chosen on other items than those of the task: "validation"',
            )
        yield from self._row_mistakes()
        yield from self._reading_mistakes()
        yield from self._ladder_mistakes()
        for group, times in Counter(self.data.groups or ()).items():
            if times > 1:
                yield ("data", "groups"), f'group "{group}" is listed {times} times'

    def _row_mistakes(self) -> Mistakes:
        if "data" in self.model_fields_set:
            pass
        elif self.task.harness is None:
            yield (), '"data" is missing'
        else:
            learned = {"train": self.train, "pretrain": self.pretrain}
            learned["controls"] = self.controls.records or self.controls.where
            for name in (name for name, given in learned.items() if given):
                yield (name,), f'"{name}" needs "data": how a row becomes prompt and completion'
        if self.validation and (self.validation.harness is None) != (self.task.harness is None):
            kind = '"harness", as in the task' if self.task.harness else "rows, as in the task"
            yield ("validation",), f'"validation" is given by {kind}'

    def _reading_mistakes(self) -> Mistakes:
        kinds = self.task.reads
        if "text" in kinds.values() and set(kinds.values()) != {"text"}:
            told = " and ".join(f"{name} {kind}" for name, kind in kinds.items())
            yield ("task", "metric"), f"one recipe measures texts or log-probabilities: {told}"
        for name, kind in kinds.items():
            if kind != "text" and self.task.win_rate:
                yield ("task", "win_rate"), f'answers are judged, and "{name}" reads {kind}'
            if kind == "options" and self.data.options is None:
                yield ("task", "metric"), f'"{name}" chooses among "options": name them in "data"'
            for rung in dict.fromkeys([self.base, *(one.model for one in self.ladder or ())]):
                wrong = lacking(f'the metric "{name}"', self.uri(rung), "score")
                if kind != "text" and wrong:
                    yield ("task", "metric"), wrong

    def _ladder_mistakes(self) -> Mistakes:
        rungs = [rung.model for rung in self.ladder or []]
        if rungs and self.base not in rungs:
            text = f'the base "{self.base}" is not one of its sizes'
            yield ("ladder",), f'{text}: write it into the ladder as it stands in "base"'
        for place, model in enumerate(rungs):
            if model in rungs[:place]:
                yield ("ladder", place), f'"{model}" is there twice'
