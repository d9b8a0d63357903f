"""Texts to the numbers that rules of quality are about, and to what these rules say."""

from __future__ import annotations

import functools
import sys
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pomona.data.quality.loops import (
    ALPHA,
    BREAK,
    CLING,
    DIGIT,
    SPACE,
    STOP,
    SYMBOL,
    UPPER,
    loop,
)
from pomona.data.quality.rules import (
    ABBREVIATIONS,
    PHRASES,
    POLICIES,
    QUALITY,
    STOP_WORDS,
    STOPPED,
    Rule,
    columns_of,
)
from pomona.shingles import power_of_two
from pomona.text import base_tag, expected_scripts, strings

_COLUMNS, _SPACELESS, _POWERS = 30, 29, 1024
_POINTS = 0x20000  # beyond are ideographs
_CLINGS = "…,:;!?¿؟¡()[]{}<>_#*&。？！，、；：～·।،۔؛٪'\"”“`‘´’‚„»«「」『』（）〔〕【】《》〈〉⟦⟧—–"
_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
Numbers = NDArray[np.float64]


def quality(
    texts: Sequence[str], scores: Sequence[str], langs: Sequence[str] | None = None
) -> dict[str, pa.Array]:
    """The columns of `scores` (gopher, c4, fineweb) for each text: `NAME` whether it keeps all
    rules that apply to it, `NAME_reason` the first that it does not keep (null where it keeps all),
    and a number for each rule, null where that does not apply. `[n]` each.

    `langs` are the languages of the texts, "" where it is not known: without them, all are taken
    for English. Rules of words do not apply to texts of which more than a fifth is of scripts
    without spaces.
    """
    numbers = measured(pa.array(texts, pa.string()))
    applies = _applies(numbers, langs)
    columns: dict[str, pa.Array] = {}
    for score in scores:
        rules = QUALITY[score]
        first = np.full(len(texts), -1)
        found = [_of_rule(rule, numbers, applies) for rule in rules]
        for place, (rule, values) in reversed(list(enumerate(zip(rules, found, strict=True)))):
            first[_broken(rule, values)] = place
        judged = np.any([~np.isnan(values) for values in found], axis=0)
        names = pa.array([rule.name for rule in rules], pa.string())
        reasons = names.take(pa.array(first, mask=first < 0))
        passes = pa.array(first < 0, mask=~judged)
        counted = [pa.array(values, from_pandas=True) for values in found]
        columns |= dict(zip(columns_of(score), [passes, reasons, *counted], strict=True))
    return columns


def _of_rule(rule: Rule, numbers: Numbers, applies: dict[str, NDArray[np.bool_]]) -> Numbers:
    values = numbers[:, rule.place]
    for need in rule.needs.split():
        values = np.where(applies[need], values, np.nan)
    return values


def _broken(rule: Rule, values: Numbers) -> NDArray[np.bool_]:
    least = -np.inf if rule.least is None else rule.least
    return (values < least) | (values > (np.inf if rule.most is None else rule.most))


def _applies(numbers: Numbers, langs: Sequence[str] | None) -> dict[str, NDArray[np.bool_]]:
    spaced = numbers[:, _SPACELESS] <= 0.2
    if langs is None:
        return {"words": spaced, "english": spaced, "stops": spaced}
    english = [base_tag(lang) in ("en", "eng", "english") for lang in langs]
    stops = [_stopped(lang) for lang in langs]
    return {"words": spaced, "english": np.array(english, bool), "stops": np.array(stops, bool)}


@functools.cache
def _stopped(lang: str) -> bool:
    scripts = expected_scripts(lang)
    return scripts is None or bool(scripts & STOPPED)


def measured(texts: pa.StringArray) -> Numbers:
    """What the loop counts in each text, float64 `[n, 30]`: see there."""
    data, offsets = strings(texts)
    numbers = np.empty((len(texts), _COLUMNS))
    longest = int(np.diff(offsets).max(initial=0))
    size = power_of_two(2 * longest + 2)
    phrases, bounds = _phrases()
    loop("measure")(
        data, offsets, _classes(), phrases, bounds,
        np.empty((2, longest + 1), np.uint32),
        np.empty((2, longest + 1), np.uint8),
        np.empty((2, longest + 1), np.int64),
        np.empty((3, longest + 2), np.uint64),
        np.empty(_POWERS, np.uint64),
        np.empty(size, np.uint64),
        np.empty(size, np.int64),
        numbers,
    )  # fmt: skip
    return numbers


@functools.cache
def _phrases() -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    every = [*ABBREVIATIONS, *STOP_WORDS, *PHRASES, *POLICIES]
    ends = np.cumsum([0, *map(len, every)])
    points = np.frombuffer("".join(every).encode("utf-32-le"), "<u4").astype(np.uint32)
    return points, np.array([0, len(ABBREVIATIONS), *ends], np.int64)


@functools.cache
def _classes() -> NDArray[np.uint8]:
    """What each code point is; beyond the table only ideographs are letters."""
    import regex

    flags = np.zeros(_POINTS, np.uint8)
    for char in _characters():
        flags[ord(char)] = _flags(char)
    every = "".join(_characters())
    for char in regex.findall(r"\p{Sentence_Terminal}", every):
        flags[ord(char)] |= STOP | SYMBOL
    for char in _CLINGS:
        flags[ord(char)] |= CLING
    for char in _BREAKS:
        flags[ord(char)] |= BREAK
    return flags


def _characters() -> Iterator[str]:
    return (chr(point) for point in range(min(_POINTS, sys.maxunicode)) if point >> 11 != 27)


def _flags(char: str) -> int:
    kind = unicodedata.category(char)
    if kind == "Cn":
        return 0
    flags = ALPHA * char.isalpha() | UPPER * char.isupper() | DIGIT * char.isdigit()
    flags |= SPACE * char.isspace()
    punctuation = (
        kind[0] == "P" or kind == "Cc" or (kind[0] == "S" and char < "\x80") or char == "´"
    )
    flags |= SYMBOL * (punctuation and char not in "\t\n")
    return flags | CLING * (kind == "Sc" or (kind == "So" and char != "°"))
