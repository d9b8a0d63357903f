"""Metrics as per-item sufficient statistics and an aggregation of their sums, so that every
bootstrap is a matrix product; and names of metrics and extractors, whose code is loaded when one is
asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError, nearest

EXTRACTORS = ("answer", "number", "boxed", "text")
References = Sequence[str] | Sequence[Sequence[str]]


class Metric(Protocol):
    """What "better" is measured with. The value of any set of items is
    `aggregate(statistics[items].sum(0))`.
    """

    @property
    def name(self) -> str:
        """What entries call it."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Whether more is better."""
        ...

    @property
    def reads(self) -> str:
        """What the outputs are. "text": answers. "logprobs": the natural-log probabilities of each
        text's tokens. "options": (option, log-probability) of every option of an item.
        """
        ...

    @property
    def signature(self) -> str:
        """Every choice that changes the number, with a version."""
        ...

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Any], /
    ) -> NDArray[np.float64]:
        """Sufficient statistics of each item, float64 `[n, k]`. A reference is one text, or the
        list of all right ones of an item.
        """
        ...

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The metric of summed statistics, `[..., k]` to `[...]`."""
        ...


# Of each metric the module beside this one, the class in it, and what the name alone sets.
METRICS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "chrf": ("chrf", "Chrf", {}),
    "chrf++": ("chrf", "Chrf", {"word_order": 2}),
    "bleu": ("bleu", "Bleu", {}),
    "ter": ("ter", "Ter", {}),
    "exact_match": ("rules", "ExactMatch", {}),
    "json_valid": ("rules", "JsonValid", {}),
    "bits_per_byte": ("likelihood", "BitsPerByte", {}),
    "acc": ("likelihood", "ChoiceAccuracy", {}),
    "acc_norm": ("likelihood", "ChoiceAccuracy", {"per": "character"}),
    "acc_bytes": ("likelihood", "ChoiceAccuracy", {"per": "byte"}),
}


def metric(
    given: str | Mapping[str, Any], *, references: int | None = 1, reads: str | None = None
) -> Metric:
    """The metric that `given` names: a name, `module:function`, or a mapping of its name and its
    options (`MetricOptions`), such as `{"name": "chrf", "beta": 1}`.

    references: how many every item has, None where it varies; the signature tells it.
    reads: what there is to read, where only such a metric is of use.
    Raises PomonaError naming the nearest name, or the option that is wrong.
    """
    made = _made(given, references)
    if made.reads != (reads or made.reads):
        fitting = [name for name in METRICS if _made(name, 1).reads == reads]
        message = f'the metric "{made.name}" reads {made.reads}, and here is {reads}'
        raise PomonaError(message, remedy=f"use {', '.join(fitting)} or MODULE:FUNCTION")
    return made


def _made(given: str | Mapping[str, Any], references: int | None) -> Metric:
    options: dict[str, Any] = {}
    name = given if isinstance(given, str) else None
    if name is None:
        name, options = _beside("options").chosen(given)
    if ":" in name:
        return _beside("rules").UserMetric(name, **options)
    if name not in METRICS:
        raise PomonaError(f'there is no metric "{name}"', remedy=nearest(name, METRICS))
    module, kind, fixed = METRICS[name]
    made = getattr(_beside(module), kind)
    if "references" in made.__dataclass_fields__:
        options["references"] = references
    return made(**fixed, **options)


def metrics(
    given: Sequence[str | Mapping[str, Any]],
    *,
    references: int | None = 1,
    reads: str | None = None,
) -> list[Metric]:
    """The metrics that `given` names, as `metric` reads each; the first one leads. Raises
    PomonaError for none, and for two that would be called the same.
    """
    several = [metric(one, references=references, reads=reads) for one in given]
    names = [one.name for one in several]
    if not names:
        raise PomonaError("there is no metric", remedy="name at least one")
    for name in names:
        if names.count(name) > 1:
            remedy = "leave one of them out"
            raise PomonaError(f'two metrics are called "{name}"', remedy=remedy)
    return several


def extractor(how: str, match: Literal["first", "last"] = "last") -> Callable[[str], str | None]:
    """A function from a text to the answer in it, None where it has none.

    how: "number", a number with thousands separators and sign, 1,000.50 and 1000.5 being the same;
        "boxed", the content of \\boxed{…}, with braces in it; "text", the whole text without case,
        runs of whitespace and a full stop at the end; "answer", the first of boxed, number and text
        that there is; `regex:PATTERN`, a match, or its first group where it has one;
        `module:function`, any function of the text.
    match: which of several numbers, boxes or matches is taken.
    Raises PomonaError for a pattern or function that cannot be used; so does the function that
    comes back, where a pattern takes longer over a text than a second.
    """
    return _beside("extraction").extractor(how, match)


def _beside(module: str) -> Any:
    return import_module(f"pomona.tasks.{module}")


def flat_references(
    outputs: Sequence[Any], references: References, expected: int | None
) -> tuple[Sequence[str], NDArray[np.intp] | None]:
    """All references end to end, and where those of each item begin, `[n + 1]`; None where every
    item has one text.

    Raises PomonaError for lists of different length and for an item with another number of
    references than `expected`, or with none.
    """
    if len(outputs) != len(references):
        message = f"{len(outputs)} outputs but {len(references)} references"
        raise PomonaError(message, remedy="give the references of every output")
    if expected in (1, None) and all(isinstance(one, str) for one in references):
        return [str(one) for one in references], None
    sets = [[one] if isinstance(one, str) else one for one in references]
    for row, texts in enumerate(sets):
        if not texts or len(texts) != (expected or len(texts)):
            given = f"{len(texts)} references where {expected or 'at least 1'} expected"
            remedy = (
                "give the metric `references`, the number every item has, or None when it varies; "
                "every item needs one"
            )
            raise PomonaError(given, where=f"item {row + 1}", remedy=remedy)
    begin = np.concatenate([[0], np.cumsum([len(texts) for texts in sets])]).astype(np.intp)
    return [text for texts in sets for text in texts], begin


def same_length(outputs: Sequence[Any], references: Sequence[Any]) -> None:
    """Raise PomonaError where the lists differ in length."""
    if len(outputs) != len(references):
        message = f"{len(outputs)} outputs but {len(references)} references"
        raise PomonaError(message, remedy="give one reference an output")
