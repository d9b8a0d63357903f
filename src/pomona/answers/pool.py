"""Pools of answers: the one that was taken, what makes one, what many pools hold, and texts as they
are put before whoever judges them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pomona.answers.budget import Account
from pomona.models import Message, Model, Reply, Request, Spent
from pomona.stats import MINIMUM, Resamples, by_group, rows_of, value_of
from pomona.tasks import Metric

_SIDES = ("chosen", "hope", "risk")


@dataclass(frozen=True)
class Answer:
    """The chosen text, its index among the candidates, and a score for each of them (what it means
    is the selection's).

    `spent` covers candidates, further evidence, and what judges are asked, score and embed.
    `stopped_by` is "complete", "agreement", "reward", what knew the answer before any was
    drawn ("lookup", "copy", "phrases", "selector"), or the limit that was met: "tokens", "flops",
    "money" or "seconds". `strategy` is its signature.
    `notes` has "selection" (what the selection tells), "pool" (distinct share and agreement), and
    one entry for each context by its name; all of it can be written as JSON.
    """

    text: str
    chosen: int
    candidates: tuple[Reply, ...]
    scores: tuple[float, ...]
    spent: Spent
    stopped_by: str
    strategy: str
    notes: Mapping[str, Any]

    @property
    def reply(self) -> Reply:
        """The chosen candidate."""
        return self.candidates[self.chosen]


class Answerer(Protocol):
    """What rows are answered with: a strategy of sampling, a teacher, a judge."""

    @property
    def operation(self) -> str:
        """The first word of the signature of its cards."""
        ...

    def parameters(self, models: Sequence[Model], judge: Model | None) -> dict[str, Any]:
        """What its answers depend on beside the request, as a card says it."""
        ...

    async def answer(
        self, request: Request, models: Sequence[Model], judge: Model | None, account: Account
    ) -> Answer:
        """An answer, all of it paid from the account. BudgetSpent when there is none."""
        ...

    def forecast(self, request: Request, models: Sequence[Model], judge: Model | None) -> Spent:
        """The most that an answer can cost."""
        ...


def text_of(reply: Reply) -> str:
    """What a candidate is judged by: its text, or its tool calls where it has none."""
    if reply.text or not reply.tool_calls:
        return reply.text
    calls = [dict(call.get("function", {})) for call in reply.tool_calls]
    return json.dumps(calls, sort_keys=True, ensure_ascii=False)


def fenced(tag: str, text: str, beside: Sequence[str] = ()) -> str:
    """Untrusted text between tags it cannot close; nor can it open or close those `beside`."""
    ways = [rf"\s*/\s*{re.escape(tag)}", *(rf"\s*/?\s*{re.escape(one)}" for one in beside)]
    kept = re.sub(f"<({'|'.join(ways)})", r"< \1", text, flags=re.IGNORECASE)
    return f"<{tag}>\n{kept}\n</{tag}>"


def conversation(request: Request) -> str:
    """A request as text: the prompt, or the content of its only message, or all messages with their
    roles.
    """
    if request.prompt is not None:
        return request.prompt
    if len(request.messages) == 1:
        return _content(request.messages[0])
    said = (f"{message.get('role')}: {_content(message)}" for message in request.messages)
    return "\n\n".join(said)


def _content(message: Message) -> str:
    """The text of a message; other parts are shown as their type, such as [image_url]."""
    content: Any = message.get("content") or ""
    if isinstance(content, str):
        return content
    return "".join(
        str(part.get("text", "")) if part.get("type") == "text" else f"[{part.get('type')}]"
        for part in content
    )


@dataclass(frozen=True)
class _Mean:
    """The mean of a number each pool has, as a metric of (value, 1)."""

    name = "mean"
    reads = "text"
    higher_is_better = True
    signature = "mean|version:1"

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Any], /
    ) -> NDArray[np.float64]:
        """See `Metric`."""
        return np.column_stack([np.asarray(outputs, np.float64), np.ones(len(outputs))])

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """See `Metric`."""
        return sums[..., 0] / sums[..., 1]


@dataclass
class PoolStats:
    """Takes in pools one by one and tells about all of them. Keeps a few numbers a pool, no text.

    *Hope* is the best answer of a pool by the metric against its reference, *risk* the worst; both
    are compared with the greedy answer (the first where a pool has none). Khairi et al. 2025 (arXiv
    2506.20544), §4.
    """

    metric: Metric | None = None
    seed: int = 0
    groups: list[str] = field(default_factory=list)
    _shares: list[tuple[float, float]] = field(default_factory=list)  # distinct, greedy picked
    _statistics: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)

    def add(
        self,
        candidates: Sequence[Reply],
        chosen: int,
        *,
        reference: str | None = None,
        group: str | None = None,
    ) -> None:
        """Take in a pool of at least one answer. With a metric every pool needs a reference."""
        texts = [text_of(reply) for reply in candidates]
        greedy = next((at for at, reply in enumerate(candidates) if reply.temperature == 0), 0)
        self.groups.append("" if group is None else str(group))
        self._shares.append((len(set(texts)) / len(texts), float(chosen == greedy)))
        if self.metric is not None and reference is not None:
            statistics = self.metric.statistics(texts, [reference] * len(texts))
            values = self.metric.aggregate(statistics) * (1 if self.metric.higher_is_better else -1)
            places = (greedy, chosen, int(np.argmax(values)), int(np.argmin(values)))
            for side, place in zip(("greedy", *_SIDES), places, strict=True):
                self._statistics.setdefault(side, []).append(statistics[place])

    def table(self, resamples: int = MINIMUM) -> list[dict[str, Any]]:
        """One row for all pools ("overall") and one for each group, in order of name.

        `distinct` and `greedy_picked` are shares with `_low` and `_high`; with a metric `greedy` is
        its value, and `chosen`, `hope` and `risk` are differences to it with `_low` and `_high`.
        Intervals cover 95 % (percentile bootstrap over prompts, `resamples` draws).
        """
        if not self.groups:
            return []
        named = {name: rows for name, rows in rows_of(self.groups).items() if name != ""}
        parts = {
            "overall": np.arange(len(self.groups)),
            **{("group overall" if n == "overall" else n): r for n, r in named.items()},
        }
        table: list[dict[str, Any]] = [
            {"group": name, "n": len(rows), **self._share(rows, resamples)}
            for name, rows in parts.items()
        ]
        if self.metric is None or not self._statistics:
            return table
        statistics = {side: np.array(rows, np.float64) for side, rows in self._statistics.items()}
        members = {name: rows for name, rows in parts.items() if name != "overall"}
        for row in table:
            row["greedy"] = value_of(self.metric, statistics["greedy"][parts[row["group"]]])
        for side in _SIDES:
            comparisons = by_group(
                self.metric,
                statistics[side],
                statistics["greedy"],
                members,
                resamples=resamples,
                seed=self.seed,
            )
            for row in table:
                compared = comparisons[row["group"]]
                row |= _interval(side, compared.delta, compared.ci_low, compared.ci_high)
        return table

    def _share(self, rows: NDArray[np.intp], resamples: int) -> dict[str, float]:
        mean, shares = _Mean(), {}
        drawn = Resamples(len(rows), resamples, self.seed)
        for column, name in enumerate(("distinct", "greedy_picked")):
            statistics = mean.statistics([self._shares[row][column] for row in rows], ())
            low, high = np.quantile(drawn.resampled(mean, statistics), [0.025, 0.975])
            shares |= _interval(name, value_of(mean, statistics), float(low), float(high))
        return shares


def _interval(name: str, value: float, low: float, high: float) -> dict[str, float]:
    return {name: value, f"{name}_low": low, f"{name}_high": high}
