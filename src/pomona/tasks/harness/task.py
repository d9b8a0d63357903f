"""A task of lm-eval as items, what is asked of a model about them, and metrics as per-item
statistics.
"""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError, nearest, quantity
from pomona.models import Ask, Model, Spent
from pomona.stats import MINIMUM, Resamples, interval, value_of
from pomona.tasks.harness.asking import Messages, messages_of, request_of
from pomona.tasks.harness.sums import SUMS, Sums, name_of
from pomona.tasks.items import Items

Answer = str | Sequence[Any]  # see HarnessTask
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of a function whose source cannot be read
_SURE = 1e6  # a log-likelihood that no other comes near, whatever length divides it
_NONE = "none"  # lm-eval's name of what no filter was applied to


class HarnessTask:
    """Documents as items, in lm-eval's order; `task` is lm-eval's own object.

    An *answer* to an item has, for each request about it, the list of its responses: a text, or
    (log-likelihood, whether it is the likeliest text) of a completion, or the log-likelihood of a
    document. A text alone stands for `[[text]]`. Answers survive JSON.
    """

    def __init__(
        self,
        task: Any,
        *,
        limit: int | None = None,
        group: str | None = None,
        cluster: str | None = None,
        chat: bool = False,
    ) -> None:
        """As `harness_task`, whose settings these are."""
        self.task, self.name, self.chat = task, str(task.task_name), chat
        self.clustered = cluster is not None
        task.build_all_requests(
            limit=limit,
            apply_chat_template=chat,
            fewshot_as_multiturn=chat,
            chat_template=messages_of if chat else None,
        )
        by_document: dict[int, list[Any]] = {}
        for instance in task.instances:
            by_document.setdefault(instance.doc_id, []).append(instance)
        self._asked = [sorted(each, key=lambda one: one.idx) for each in by_document.values()]
        self.items = self._items(group, cluster)
        self._row = {item: row for row, item in enumerate(self.items.ids)}

    @property
    def needs(self) -> Literal["generate", "score"]:
        """The ability a model must have for it."""
        kinds = {one.request_type for asked in self._asked for one in asked}
        return "generate" if kinds == {"generate_until"} else "score"

    @property
    def signature(self) -> str:
        """Every choice that changes its numbers, with versions."""
        shots, chat = self.task.get_config("num_fewshot"), "yes" if self.chat else "no"
        return (
            f"lm-eval:{version('lm_eval')}|task:{self.name}|version:{self.task.VERSION}"
            f"|shots:{shots}|chat:{chat}|n:{len(self.items)}|sha256:{self.fingerprint}"
        )

    @cached_property
    def fingerprint(self) -> str:
        """Of what is asked, and of the task's settings with the source of its functions: 16 hex
        digits. Where its data lies is not in it.
        """
        settings = {
            key: value
            for key, value in self.task.dump_config().items()
            if key not in {"dataset_kwargs", "metadata"}
        }
        asked = [[one.doc, *one.args] for each in self._asked for one in each]
        text = json.dumps([settings, asked], sort_keys=True, default=str)
        return sha256(_ADDRESS.sub("", text).encode("utf-8", "replace")).hexdigest()[:16]

    @property
    def metrics(self) -> tuple[HarnessMetric, ...]:
        """Each metric of the task after each of its filters; the first one leads."""
        names = [name for name in self.task.aggregation() if name != "bypass"]
        filters = [each.name for each in self.task._filters]
        return tuple(HarnessMetric(self, name, each) for each in filters for name in names)

    def requests(self, seed: int = 0) -> list[Ask]:
        """What to ask a model about each item, with the draws that the task wants: for whoever
        draws answers by a strategy. Raises PomonaError for a task that needs "score".
        """
        if self.needs == "score":
            message, remedy = "is not answered with text", "use HarnessTask.answers"
            raise PomonaError(message, where=self.name, remedy=remedy)
        asks: list[Ask] = []
        for one, *_more in self._asked:
            context, settings, *_ = one.args
            request, temperature = request_of(context, settings, seed)
            several = one.repeats if temperature else 1
            asks.append((request, [(index, temperature) for index in range(several)]))
        return asks

    def answers(self, model: Model, *, seed: int = 0) -> HarnessAnswers:
        """A model's answer to each item, as lm-eval asks for it.

        Raises PomonaError when the model has not the ability that it `needs`, and for a prompt that
        is longer than its context.
        """
        if self.needs == "score" and "score" not in model.abilities:
            raise model.without("score")
        from pomona.tasks.harness.model import HarnessModel

        asking: Any = HarnessModel(model, seed=seed, greedy=self._reads_likeliest())
        responses: dict[int, list[Any]] = {}
        flat = [one for asked in self._asked for one in asked]
        for kind in dict.fromkeys(one.request_type for one in flat):
            several = [one for one in flat if one.request_type == kind for _ in range(one.repeats)]
            for one, response in zip(several, getattr(asking, kind)(several), strict=True):
                responses.setdefault(id(one), []).append(response)
        answers = [[responses[id(one)] for one in asked] for asked in self._asked]
        return HarnessAnswers(answers, asking.spent, asking.cut)

    @property
    def chooses(self) -> bool:
        """Whether an item is answered by one of its choices."""
        return self.task.OUTPUT_TYPE == "multiple_choice"

    def by_chance(self, seed: int = 0) -> list[list[list[Any]]]:
        """Answers of a model that is sure of one choice an item, which is taken by chance."""
        draw, answers = np.random.default_rng(seed), []
        for asked, choices in zip(self._asked, self.items.options, strict=True):
            pick = int(draw.integers(len(choices)))
            # Of the others nothing is likely; requests after those ask for each choice by itself.
            values = [-_SURE * (at < len(choices) and at != pick) for at in range(len(asked))]
            answers.append([[(value, value == 0)] for value in values])
        return answers

    def results(self, answers: Sequence[Answer], ids: Sequence[str]) -> dict[str, list[Any]]:
        """What lm-eval's own filters and metrics make of answers to the items `ids`, by
        `metric,filter`: a value an item, in its form, None for an item without one.

        Raises PomonaError for other ids, another number of them than of answers, and what the
        task's own code raises.
        """
        if len(answers) != len(ids):
            message = f"{quantity(len(answers), 'answer')} but {quantity(len(ids), 'id')}"
            raise PomonaError(message, where=self.name, remedy="give an item one answer")
        given: list[list[Any]] = []
        for id_, answer in zip(ids, answers, strict=True):
            if id_ not in self._row:
                message, remedy = f'has no item "{id_}"', "give ids of HarnessTask.items"
                raise PomonaError(message, where=self.name, remedy=remedy)
            parts = [[answer]] if isinstance(answer, str) else answer
            given.append(self._answered(self._asked[self._row[id_]], parts))
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            self.task._instances = [one for asked in given for one in asked]
            self.task.apply_filters()
            values: dict[str, list[Any]] = {}
            for name in (each.name for each in self.task._filters):
                for row, asked in enumerate(given):
                    responses = [one.filtered_resps[name] for one in asked]
                    for metric, value in self._processed(asked[0].doc, responses).items():
                        column = values.setdefault(f"{metric},{name}", [None] * len(given))
                        column[row] = value
        return values

    def _processed(self, document: Any, responses: list[Any]) -> dict[str, Any]:
        try:
            return self.task.process_results(document, responses)
        except Exception as error:  # a task's own function may raise anything
            message = f"its metrics failed: {type(error).__name__}: {error}"
            where = f"{self.name}, {json.dumps(document, default=str)[:80]}"
            raise PomonaError(message, where=where, remedy="mend the task") from error

    def _answered(self, asked: Sequence[Any], answer: Sequence[Any]) -> list[Any]:
        """Copies of lm-eval's requests, with the responses to them."""
        if len(answer) != len(asked):
            message = f"an answer has {len(answer)} responses for {len(asked)} requests"
            raise PomonaError(message, where=self.name, remedy="answer each request of an item")
        copies = [copy.copy(one) for one in asked]
        for one, responses in zip(copies, answer, strict=True):
            one.resps, one.filtered_resps = [_complete(response) for response in responses], {}
        return copies

    def _reads_likeliest(self) -> bool:
        """Whether its metrics may look at that: a function of its own may."""
        metrics = self.task.aggregation()
        known = self.task.OUTPUT_TYPE == "multiple_choice" and "exact_match" not in metrics
        return not known or callable(self.task.get_config("process_results"))

    def _items(self, group: str | None, cluster: str | None) -> Items:
        ids: list[str] = []
        seen: dict[str, int] = {}
        for asked in self._asked:
            text = json.dumps(asked[0].doc, sort_keys=True, default=str)
            id_ = sha256(text.encode()).hexdigest()[:16]
            seen[id_] = seen.get(id_, 0) + 1
            ids.append(id_ if seen[id_] == 1 else f"{id_}-{seen[id_]}")
        documents = [asked[0].doc for asked in self._asked]
        contexts = [asked[0].args[0] for asked in self._asked]
        prompts = [_readable(context) for context in contexts]
        targets = [self._targets(document) for document in documents]
        return Items(
            ids,
            prompts,
            [first for first, *_ in targets],
            self._column(documents, group) if group else ["all"] * len(ids),
            [
                source if isinstance(source := self.task.doc_to_text(document), str) else prompt
                for document, prompt in zip(documents, prompts, strict=True)
            ],
            self._column(documents, cluster) if cluster else ids,
            [others for _, *others in targets],
            [one.parsed() if isinstance(one, Messages) else None for one in contexts],
            [self._choices(document) for document in documents],
        )

    def _column(self, documents: Sequence[Any], name: str) -> list[str]:
        for row, document in enumerate(documents, 1):
            if name not in document:
                remedy = nearest(name, map(str, document))
                where = f"{self.name}, document {row}"
                raise PomonaError(f'there is no column "{name}"', where=where, remedy=remedy)
        return [str(document[name]) for document in documents]

    def _choices(self, document: Any) -> list[str]:
        """What may be chosen from, nothing where an answer is free."""
        if self.task.get_config("doc_to_choice") is None:
            return []
        return [str(choice) for choice in self.task.doc_to_choice(document)]

    def _targets(self, document: Any) -> list[str]:
        """The references as text, a choice's text for its number; never empty."""
        found, choices = self.task.doc_to_target(document), self._choices(document)
        found = found if isinstance(found, list) else [found]
        texts = [
            choices[one] if choices and isinstance(one, int) and 0 <= one < len(choices) else one
            for one in found
        ]
        return list(map(str, texts)) or [""]


@dataclass(frozen=True)
class HarnessAnswers:
    """An answer to each item, what they cost, and how many contexts lost their beginning, as with
    lm-eval, because they were too long to score.
    """

    answers: list[list[list[Any]]]
    spent: Spent
    cut: int


@dataclass(frozen=True)
class StoredMetric:
    """What of a HarnessMetric a file keeps: all that comparing its statistics needs. `aggregation`
    is lm-eval's name.
    """

    name: str
    aggregation: str
    higher_is_better: bool
    reads: str
    signature: str

    @property
    def sums(self) -> Sums:
        """How its number follows from sums. Raises PomonaError where it does not."""
        if self.aggregation not in SUMS:
            message = f'"{self.aggregation}" is not a function of sums over items'
            remedy = "use another metric of the task: this one has a value and no interval"
            raise PomonaError(message, where=self.name, remedy=remedy)
        return SUMS[self.aggregation]

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Metric`: lm-eval's number, in its unit."""
        return self.sums.value(sums)


@dataclass(frozen=True)
class HarnessMetric:
    """A `Metric` whose references are ids of the task's items: what is right, lm-eval finds in
    their documents. Its name is lm-eval's, without the filter where there is none.
    """

    task: HarnessTask
    metric: str
    filter: str

    @property
    def name(self) -> str:
        """As in lm-eval's tables."""
        return self.metric if self.filter == _NONE else f"{self.metric},{self.filter}"

    @property
    def higher_is_better(self) -> bool:
        """As the task says, or lm-eval for its own metrics."""
        return bool(self.task.task.higher_is_better().get(self.metric, True))

    @property
    def reads(self) -> str:
        """See `Metric`: "text", or "responses" as `HarnessTask` has them."""
        return "text" if self.task.needs == "generate" else "responses"

    @property
    def signature(self) -> str:
        """See `Metric`."""
        return f"{self.metric}|filter:{self.filter}|{self.task.signature}"

    @property
    def additive(self) -> bool:
        """Whether the number is a function of sums over items. A median is not, and of a function
        of the task's own nobody knows: then there is a value, and no interval.
        """
        return self.stored.aggregation in SUMS

    @property
    def stored(self) -> StoredMetric:
        """What compares statistics that are in a file, without lm-eval."""
        how = name_of(self._aggregation)
        return StoredMetric(self.name, how, self.higher_is_better, self.reads, self.signature)

    @property
    def _key(self) -> str:
        return f"{self.metric},{self.filter}"

    @property
    def _aggregation(self) -> Callable[..., Any]:
        return self.task.task.aggregation()[self.metric]

    def value(self, outputs: Sequence[Answer], references: Sequence[str], /) -> float | None:
        """lm-eval's own number, None where no item has a value."""
        return self.number(self.task.results(outputs, references))

    def statistics(
        self, outputs: Sequence[Answer], references: Sequence[str], /
    ) -> NDArray[np.float64]:
        """See `Metric`; `references` are ids. An item without a value has zeros."""
        return self.rows(self.task.results(outputs, references))

    def number(self, results: Mapping[str, list[Any]]) -> float | None:
        """`value` of what `HarnessTask.results` gave."""
        known = [value for value in results.get(self._key, ()) if value is not None]
        return float(self._aggregation(known)) if known else None

    def rows(self, results: Mapping[str, list[Any]]) -> NDArray[np.float64]:
        """`statistics` of what `HarnessTask.results` gave."""
        values = results.get(self._key) or [None] * max(map(len, results.values()), default=0)
        places = [row for row, value in enumerate(values) if value is not None]
        known = (
            self.stored.sums.rows([values[row] for row in places]) if places else np.zeros((0, 2))
        )
        statistics = np.zeros((len(values), known.shape[1]))
        statistics[places] = known
        return statistics

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Metric`: lm-eval's number, in its unit."""
        return self.stored.aggregate(sums)


@dataclass(frozen=True)
class HarnessScore:
    """A metric's value with its interval over items or clusters, None where the metric cannot be
    resampled or there is one item; `cut` as in `HarnessAnswers`.
    """

    metric: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    cut: int
    higher_is_better: bool
    signature: str


def evaluate(
    task: HarnessTask,
    model: Model,
    *,
    resamples: int = MINIMUM,
    seed: int = 0,
    level: float = 0.95,
) -> list[HarnessScore]:
    """Ask the model and score it by each metric of the task: lm-eval's numbers, each with the
    percentile interval of a bootstrap over items, or over the task's clusters where it has some.

    Raises PomonaError as `HarnessTask.answers` and `Resamples` do.
    """
    clusters = task.items.clusters if task.clustered else None
    drawn = Resamples(len(task.items), resamples, seed, clusters)
    answered = task.answers(model, seed=seed)
    results = task.results(answered.answers, task.items.ids)
    over, n = "items" if clusters is None else "clusters", len(task.items)
    scores = []
    for metric in task.metrics:
        signature = f"{metric.signature}|ci:{level:g}|bootstrap:{over}:{resamples}|seed:{seed}"
        value = metric.number(results)
        low = high = None
        if value is not None and metric.additive:
            statistics = metric.rows(results)
            value = value_of(metric, statistics)
            if drawn.units > 1:  # one says nothing of its error
                low, high = interval(metric, statistics, drawn, level)
        better, cut = metric.higher_is_better, answered.cut
        scores.append(HarnessScore(metric.name, value, low, high, n, cut, better, signature))
    return scores


def _complete(response: Any) -> Any:
    """A response as lm-eval computes with it: what nobody asked for is a bool there too, although
    no metric of the task reads it.
    """
    if isinstance(response, Sequence) and len(response) == 2 and response[1] is None:
        return (response[0], False)
    return response


def _readable(context: Any) -> str:
    if isinstance(context, Messages):
        return "\n\n".join(turn["content"] for turn in context.parsed())
    return str(context)
