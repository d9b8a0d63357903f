"""What a merge is worth on a task: its tensors go straight into a loaded network, which scores or
answers the items.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError, quantity
from pomona.merge.plan import MergePlan
from pomona.merge.search.problem import ItemSelection, MergeTask
from pomona.merge.search.trials import Score
from pomona.models import decode_flops, prefill_flops, scoring_flops
from pomona.tasks import Items, Metric, fields_of, items_from, limit, metric

if TYPE_CHECKING:
    from pomona.models.torch import TorchModel


# keys of config.json that change no score
_IDLE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


@dataclass(frozen=True)
class Loss:
    """Nats a byte of the completion, teacher-forced, the end token's with them. Lower is better,
    and small changes of weights show.
    """

    name = "loss"
    reads = "logprobs"
    higher_is_better = False
    signature = "loss|unit:nats/byte|end:yes|version:1"

    def statistics(
        self, outputs: Sequence[NDArray[Any]], references: Sequence[str], /
    ) -> NDArray[np.float64]:
        """(nats, bytes) of each item, float64 `[n, 2]`, from the log-probabilities of each
        completion's tokens `[t]` and the texts.
        """
        nats = [-float(np.sum(output, dtype=np.float64)) for output in outputs]
        return np.column_stack(
            [nats, [len(text.encode("utf-8", "surrogatepass")) for text in references]]
        ).astype(np.float64)

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """All nats over all bytes."""
        return sums[..., 0] / sums[..., 1]


def metric_of(name: str) -> Metric:
    """The metric called `name` in a recipe: loss, or one of `pomona.tasks`."""
    return Loss() if name == "loss" else metric(name, reads="text")


def read_items(task: MergeTask, part: ItemSelection, files: Sequence[str]) -> Items:
    """The items of a part of the records. Raises PomonaError for missing columns and for parts
    without items.
    """
    from pomona import records

    rows = records.read(list(files))
    needed = [*fields_of(task.prompt), *fields_of(task.completion), *filter(None, [task.group])]
    there = [name for name in dict.fromkeys(needed) if name in rows.column_names]
    answers = [name for name in there if task.completion == f"{{{name}}}"]
    rows = rows.complete(*there, texts=answers)  # of all parts at once: each row is rejected once
    for column, value in part.where.items():
        rows.require(column)
        rows = rows.where(**{column: value})
    return limit(items_from(rows, task.prompt, task.completion, task.group), part.per_group)


def refuse_shared(valid: Items, test: Items) -> None:
    """Raise PomonaError when items are both searched on and tested on: what is chosen on them
    cannot be tested on them.
    """
    shared = sorted(set(valid.ids) & set(test.ids))
    if shared:
        at = test.ids.index(shared[0])
        message = (
            f"{quantity(len(shared), 'item is', 'items are')}"
            f" in `valid` and in `test`, the first is {test.prompts[at]!r}"
        )
        raise PomonaError(message, where="search", remedy="choose other rows with `where`")


@dataclass(frozen=True)
class Judged:
    """Statistics of every item, float64 `[n, k]`, with the operations and tokens it took."""

    statistics: NDArray[np.float64]
    flops: float
    tokens: int


class Judge:
    """Scores merges. The network is built once, from the configuration and tokenizer that a merge
    would be written with.

    metric: loss, chrf, chrf++ or exact_match; the last three are of greedy answers of at most
        `max_new_tokens` tokens.
    chat, dtype, device: as in `pomona.models.load`. threads, memory: of the merging, as in
    `pomona.merge.merge`.
    """

    def __init__(
        self,
        metric: str = "loss",
        *,
        max_new_tokens: int = 64,
        chat: bool = False,
        dtype: str | None = None,
        device: str | None = None,
        threads: int | None = 1,
        memory: int | str = "1GiB",
    ) -> None:
        self.metric = metric_of(metric)
        self.max_new_tokens = max_new_tokens
        self._chat, self._dtype, self._device = chat, dtype, device
        self._engine = {"threads": threads, "memory": memory}
        self._shell: tuple[str, TorchModel] | None = None

    @classmethod
    def of(cls, task: MergeTask, *, device: str | None = None, **engine: Any) -> Judge:
        """The judge that a recipe asks for; of the options of a merge in `engine` it takes threads,
        which are torch's from then on, and memory.
        """
        taken = {name: engine[name] for name in ("threads", "memory") if name in engine}
        if taken.get("threads") is not None:
            with suppress(ImportError):  # `ready` says what is not installed
                import torch

                torch.set_num_threads(taken["threads"])
        return cls(
            task.metric,
            max_new_tokens=task.max_new_tokens,
            chat=task.chat,
            dtype=task.dtype,
            device=device,
            **taken,
        )

    @property
    def signature(self) -> str:
        """The metric's signature and what else changes a score."""
        answers = "" if isinstance(self.metric, Loss) else f"|new:{self.max_new_tokens}"
        name = "" if self.metric.signature.startswith(self.metric.name) else f"{self.metric.name}|"
        chat = "yes" if self._chat else "no"
        return f"{name}{self.metric.signature}{answers}|dtype:{self._dtype or 'auto'}|chat:{chat}"

    def __call__(self, plan: MergePlan, items: Items) -> Judged:
        """Merge in memory and score on `items`. Raises PomonaError for a merge that cannot be made
        or run.
        """
        from pomona.merge.engine.run import tensors

        model = self._model_for(plan)
        model.replace(tensors(plan, **self._engine))
        if isinstance(self.metric, Loss):
            return self._scored(model, items)
        return self._answered(model, items)

    def ready(self, plan: MergePlan) -> None:
        """Build the network of a plan, so that what is wrong with it or this installation is raised
        before the first candidate.
        """
        self._model_for(plan)

    def _scored(self, model: TorchModel, items: Items) -> Judged:
        scores = model.score(items.prompts, items.completions, end=model.codec.end is not None)
        prompts = model.count_tokens(items.prompts)
        lengths = np.array([len(score) for score in scores])
        flops = float(scoring_flops(model.shape, prompts, lengths).sum())
        statistics = self.metric.statistics(scores, items.completions)
        return Judged(statistics, flops, int(prompts.sum() + lengths.sum()))

    def _answered(self, model: TorchModel, items: Items) -> Judged:
        samples = [
            pool[0] for pool in model.generate(items.prompts, max_new_tokens=self.max_new_tokens)
        ]
        prompts = np.array([sample.prompt_tokens for sample in samples])
        lengths = np.array([sample.completion_tokens for sample in samples])
        prefill = prefill_flops(model.shape, prompts)
        flops = float((prefill + decode_flops(model.shape, prompts, lengths)).sum())
        statistics = self.metric.statistics([sample.text for sample in samples], items.completions)
        return Judged(statistics, flops, int(prompts.sum() + lengths.sum()))

    def _model_for(self, plan: MergePlan) -> TorchModel:
        """The network for a plan; the one there is serves all plans of its configuration and
        tokenizer.
        """
        key = _kind(plan)
        if self._shell is None or self._shell[0] != key:
            self._shell = None
            self._shell = (key, self._blank(plan))
        return self._shell[1]

    def _blank(self, plan: MergePlan) -> TorchModel:
        try:
            from pomona.models.torch import TorchModel
        except ImportError as error:
            raise PomonaError(
                "judging a merge needs PyTorch and transformers",
                remedy="pip install 'pomona[torch]'",
            ) from error
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_shell(plan, folder)
            return TorchModel(
                "the merge",
                folder,
                device=self._device,
                dtype=self._dtype,
                chat=self._chat,
                blank=True,
            )


def write_shell(plan: MergePlan, folder: Path) -> None:
    """Into `folder`, what a network is built from: everything the merge would be written with but
    its tensors.

    Raises PomonaError for a merge without a tokenizer.
    """
    if plan.tokenizer is None:
        raise PomonaError(
            "the merge has no tokenizer, so no text can be scored",
            remedy="put a tokenizer beside the base or first model",
        )
    for name, content in _beside(plan):
        (folder / name).write_bytes(content)
    (folder / "config.json").write_text(json.dumps(dict(plan.config)), encoding="utf-8")


def _kind(plan: MergePlan) -> str:
    """A hash of what a network is built from."""
    config = {key: value for key, value in plan.config.items() if key not in _IDLE}
    digest = sha256(json.dumps(config, sort_keys=True).encode())
    for name, content in _beside(plan):
        digest.update(name.encode() + content)
    return digest.hexdigest()


def _beside(plan: MergePlan) -> Iterator[tuple[str, bytes]]:
    """The tokenizer's files and whatever else is not a tensor."""
    from pomona.merge.engine.writing import TOKENIZER_FILES

    for name in TOKENIZER_FILES:
        if plan.tokenizer is not None and (plan.tokenizer / name).is_file():
            yield name, (plan.tokenizer / name).read_bytes()
    yield from plan.extra.items()


class OnItems:
    """An objective of `search`: the judge's metric on fixed items. Its signature names the metric
    and, by a hash, the items.
    """

    def __init__(self, judge: Judge, items: Items) -> None:
        self.judge, self.items = judge, items
        self.higher_is_better = judge.metric.higher_is_better
        self.signature = f"{judge.signature}|items:{len(items)}:{digest_of(items)}"

    def __call__(self, plan: MergePlan, /) -> Score:
        """The metric of the merge on the items."""
        judged = self.judge(plan, self.items)
        value = float(self.judge.metric.aggregate(judged.statistics.sum(0)))
        return Score(value, judged.flops, judged.tokens)


def digest_of(items: Items) -> str:
    """A short hash of the items."""
    return sha256("\n".join(items.ids).encode()).hexdigest()[:16]
