"""Metrics that are the mean of a verdict on each item: whether the answer is right, whether it is
JSON, and what a function of the user's says.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import re
import string
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pomona._lazy import function_named
from pomona.documents import parse_json
from pomona.errors import PomonaError, first_line
from pomona.tasks._metrics import References, flat_references, same_length
from pomona.tasks.extraction import Match, as_number, compiled, extractor, searched

Step = Literal["unicode", "lower", "punctuation", "articles"]
STEPS: tuple[Step, ...] = ("unicode", "lower", "punctuation", "articles")  # in this order
_ARTICLES = re.compile(r"\b(?:a|an|the)\b", re.IGNORECASE)


class _Share:
    """Statistics (verdict, 1), of which the metric is the percentage."""

    reads = "text"
    higher_is_better = True

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """Verdicts per hundred items."""
        return 100 * sums[..., 0] / sums[..., 1]


@dataclass(frozen=True)
class ExactMatch(_Share):
    """Percentage of outputs equal to a reference. Whitespace at the ends is ignored and any run
    inside is one space; case counts unless `normalise` says otherwise.

    extract: what is compared, as `pomona.tasks.extractor` finds it in output and reference. An
        output without it is wrong; a reference without it is the answer itself.
    match: which of several is extracted.
    normalise: done to both in this order: "unicode" (NFKC), "lower", "punctuation" (all of Unicode
        and of ASCII is dropped), "articles" (a, an, the are dropped).
    equal: "number" compares by value where both are numbers: 1,000 equals 1000.0.
    """

    extract: str | None = None
    match: Match = "last"
    normalise: tuple[Step, ...] = ()
    equal: Literal["text", "number"] = "text"
    references: int | None = 1

    @property
    def name(self) -> str:
        """With all parts that differ from the defaults; of code and patterns only the kind."""
        how = (self.extract or "").partition(":")
        parts = ["function" if how[1] and how[0] != "regex" else how[0]]
        parts += ["first"] if self.match == "first" else []
        parts += [step for step in STEPS if step in self.normalise]
        parts += ["equal"] if self.equal == "number" else []
        return "-".join(["exact_match", *filter(None, parts)])

    @property
    def signature(self) -> str:
        """See `Metric`."""
        how = json.dumps(self.extract, ensure_ascii=False) if self.extract else None
        extract = [f"extract:{how}", f"match:{self.match}"] if how else []
        if self.extract and self.extract.startswith("regex:"):
            extract.append(f"regex:{version('regex')}")
        elif self.extract and ":" in self.extract:
            extract.append(f"code:{code_of(self.extract)}")
        steps = [name for name in ("punctuation", "articles") if name in self.normalise]
        parts = [
            *extract,
            f"nrefs:{self.references or 'var'}",
            f"case:{'lower' if 'lower' in self.normalise else 'mixed'}",
            *(f"{name}:no" for name in steps),
            *(["form:nfkc"] if "unicode" in self.normalise else []),
            *([f"unicode:{unicodedata.unidata_version}"] if self.normalise else []),
            "space:collapsed",
            *(["equal:number"] if self.equal == "number" else []),
        ]
        return "|".join(["exact_match", *parts, "version:1"])

    def statistics(self, outputs: Sequence[str], references: References, /) -> NDArray[np.float64]:
        """(match, 1) of each item, float64 `[n, 2]`. Raises PomonaError as `flat_references` and
        the extractor do.
        """
        pool, begin = flat_references(outputs, references, self.references)
        find = extractor(self.extract, self.match) if self.extract else None
        right = [self._normal(text if find is None else find(text) or text) for text in pool]
        said = [text if find is None else find(text) for text in outputs]
        ours = [None if text is None else self._normal(text) for text in said]
        ends = itertools.pairwise(range(len(right) + 1) if begin is None else begin)
        matches = [
            text is not None and any(self._same(text, one) for one in right[first:last])
            for text, (first, last) in zip(ours, ends, strict=True)
        ]
        return np.column_stack([np.array(matches, dtype=np.float64), np.ones(len(matches))])

    def _normal(self, text: str) -> str:
        if "unicode" in self.normalise:
            text = unicodedata.normalize("NFKC", text)
        if "lower" in self.normalise:
            text = text.lower()
        if "punctuation" in self.normalise:
            text = "".join(letter for letter in text if not _is_punctuation(letter))
        if "articles" in self.normalise:
            text = _ARTICLES.sub(" ", text)
        return " ".join(text.split())

    def _same(self, one: str, other: str) -> bool:
        if one == other or self.equal == "text":
            return one == other
        value = as_number(one)
        return value is not None and value == as_number(other)


@lru_cache(1 << 16)
def _is_punctuation(letter: str) -> bool:
    return letter in string.punctuation or unicodedata.category(letter).startswith("P")


@dataclass(frozen=True)
class JsonValid(_Share):
    """Percentage of outputs that are one JSON value and nothing else, as this package reads JSON:
    no key twice, no NaN, no half characters, at most 200 levels.

    schema: a JSON Schema (draft 2020-12) that the value must fulfil. It may refer to its own parts
    only. Needs the extra `context`. Raises PomonaError where it is none.
    """

    schema: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.schema is not None:
            _validator(json.dumps(self.schema, sort_keys=True))

    @property
    def name(self) -> str:
        """See `Metric`."""
        return "json_valid" if self.schema is None else "json_valid-schema"

    @property
    def signature(self) -> str:
        """See `Metric`."""
        about = ""
        if self.schema is not None:
            text = json.dumps(self.schema, sort_keys=True)
            digest = hashlib.sha256(text.encode()).hexdigest()[:12]
            about = f"|schema:{digest}|draft:2020-12|jsonschema:{version('jsonschema')}"
        return f"{self.name}|keys:once|nan:no|depth:200{about}|version:1"

    def statistics(
        self, outputs: Sequence[str], references: Sequence[Any], /
    ) -> NDArray[np.float64]:
        """(valid, 1) of each item, float64 `[n, 2]`. References are not looked at."""
        same_length(outputs, references)
        valid = [self._valid(text) for text in outputs]
        return np.column_stack([np.array(valid, np.float64), np.ones(len(valid))])

    def _valid(self, text: str) -> bool:
        try:
            value = parse_json(text.encode("utf-8", "surrogatepass"), "output", top=None)
        except PomonaError:
            return False
        if self.schema is None:
            return True
        try:
            return _validator(json.dumps(self.schema, sort_keys=True)).is_valid(value)
        except PomonaError:
            raise
        except Exception as error:  # a reference that leads nowhere, a schema that goes in circles
            message = f"cannot be applied: {first_line(error)}"
            remedy = "let it refer to parts of its own that are there"
            raise PomonaError(message, where="schema", remedy=remedy) from error


@lru_cache(64)
def _validator(text: str) -> Any:
    """What checks values by a schema, without ever fetching one, and with patterns that end."""
    try:
        from jsonschema import Draft202012Validator, SchemaError, ValidationError, validators
        from referencing import Registry
    except ImportError:
        remedy = "pip install 'pomona[context]'"
        raise PomonaError("a schema needs jsonschema", remedy=remedy) from None

    def pattern(validator: Any, wanted: str, value: Any, schema: Any) -> Any:
        if isinstance(value, str) and searched(compiled(wanted), value) is None:
            yield ValidationError(f"{value!r} does not match {wanted!r}")

    schema = json.loads(text)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        message = f"is no JSON Schema: {error.json_path}: {error.message}"
        raise PomonaError(message, where="schema", remedy="see json-schema.org") from None
    if any("patternProperties" in one for one in _parts(schema)):
        remedy = "name the properties, or leave it out"
        raise PomonaError('"patternProperties" is not supported', where="schema", remedy=remedy)
    kind = validators.extend(Draft202012Validator, {"pattern": pattern})
    return kind(schema, registry=Registry())


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """All mappings in a schema."""
    if isinstance(schema, Mapping):
        yield schema
    inner = schema.values() if isinstance(schema, Mapping) else schema
    for one in inner if isinstance(schema, Mapping | list) else ():
        yield from _parts(one)


@dataclass(frozen=True)
class UserMetric:
    """A metric that a function of the user's computes: `module:function`, called with all outputs
    and all references, gives one number an item, whose mean is the metric.

    The function's attribute `higher_is_better` is True unless it says otherwise. With an attribute
    `aggregate`, a function from summed statistics `[..., k]` to values `[...]`, it may give k
    numbers an item. Raises PomonaError for a function that cannot be imported.
    """

    function: str
    reads = "text"

    def __post_init__(self) -> None:
        function_named(self.function)

    @property
    def name(self) -> str:
        """See `Metric`."""
        return self.function

    @property
    def higher_is_better(self) -> bool:
        """See `Metric`."""
        return bool(getattr(function_named(self.function), "higher_is_better", True))

    @property
    def signature(self) -> str:
        """With a hash of the file that holds the function."""
        return f"{self.function}|code:{code_of(self.function)}|version:1"

    def statistics(
        self, outputs: Sequence[Any], references: Sequence[Any], /
    ) -> NDArray[np.float64]:
        """(number, 1) of each item, float64 `[n, 2]`; with `aggregate` what the function gives,
        `[n, k]`. Raises PomonaError where it fails, or gives another shape or no finite numbers.
        """
        same_length(outputs, references)
        own = hasattr(function_named(self.function), "aggregate")
        given = self._called(function_named(self.function), outputs, references)
        if not (given.ndim in ((1, 2) if own else (1,)) and len(given) == len(outputs)):
            message = f"gave the shape {given.shape} for {len(outputs)} outputs"
            shape = "(outputs, numbers)" if own else "(outputs,)"
            raise self._wrong(message, f"return one number for every output, shape {shape}")
        rows = given if given.ndim == 2 else given[:, None]
        if not np.isfinite(rows).all():
            row = int(np.argmin(np.isfinite(rows).all(axis=1)))
            message = f"gave {rows[row].tolist()} for item {row + 1}"
            raise self._wrong(message, "return finite numbers")
        return rows if own else np.column_stack([rows, np.ones(len(outputs))])

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean, or what the function's `aggregate` gives."""
        own = getattr(function_named(self.function), "aggregate", None)
        if own is None:
            return sums[..., 0] / sums[..., 1]
        values = self._called(own, sums)
        if values.shape != sums.shape[:-1]:
            message = f"`aggregate` gave the shape {values.shape} for sums {sums.shape}"
            raise self._wrong(message, "return one value for every row of sums[..., k]")
        return values

    def _called(self, function: Callable[..., Any], *given: Any) -> NDArray[np.float64]:
        try:
            value = function(*given)
        except Exception as error:  # a function of the user's may fail in any way
            raise self._wrong(f"failed: {first_line(error)}", "mend it") from error
        try:
            return np.asarray(value, np.float64)
        except (TypeError, ValueError):
            message = f"gave {type(value).__name__} that holds no numbers"
            raise self._wrong(message, "return one number for every output") from None

    def _wrong(self, message: str, remedy: str) -> PomonaError:
        module, _, function = self.function.partition(":")
        where = f'module "{module}", function "{function}"'
        return PomonaError(message, where=where, remedy=remedy)


def code_of(name: str) -> str:
    """A hash of the file that holds the function `module:function`; "unknown" without one."""
    module = inspect.unwrap(function_named(name)).__module__
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        return hashlib.sha256(Path(file or "").read_bytes()).hexdigest()[:12]
    except OSError:
        return "unknown"
