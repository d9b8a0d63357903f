"""What can be measured on texts, a column at a time: lengths, languages, formats, kinds of code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute

from pomona.errors import PomonaError
from pomona.markers.formality import formality
from pomona.markers.formats import code_types, formats
from pomona.text import count_words, detect, letters_by_script, prose

pc: Any = pyarrow.compute  # its stubs lack most functions


_LEAST = 0.5  # probability of a language that is named
_END = r"""[.!?…。！？।؟။።]+["'’”»)\]]*(?:\s|$)"""
_ENDED = r"""[.!?…。！？।؟။።]["'’”»)\]]*\s*$"""


@dataclass(frozen=True)
class Measured:
    """Values of rows, null where there is none, and how sure each is."""

    values: pa.Array
    sure: pa.Array


@dataclass(frozen=True)
class Texts:
    """Texts `[n]`, what they answer where that is known, what counts tokens, and what says their
    languages, where that is asked for.
    """

    texts: pa.Array
    prompts: pa.Array | None
    tokenizer: Callable[[list[str]], list[int]] | None
    languages: Callable[[], Measured] | None = None

    def measured(self, measure: str) -> Measured:
        """What one of the measures says of each text."""
        if measure in _NUMBERS:
            return _certain(_NUMBERS[measure](self.texts))
        if measure == "tokens":
            assert self.tokenizer is not None
            return _certain(_distinct(self.texts, self.tokenizer, pa.int64()))
        if measure == "untranslated":
            assert self.prompts is not None
            return _certain(_untranslated(self.texts, self.prompts))
        if measure == "formality":
            langs = self.languages() if self.languages else self.measured("language")
            said = formality(self.texts.to_pylist(), langs.values.to_pylist())
            values = pa.array(said, pa.string())
            # As sure as the language, which a column has said where nothing tells how sure.
            sure = pc.if_else(values.is_valid(), langs.sure.fill_null(1.0), None)
            return Measured(values, sure)
        named = {"language": _languages, "format": formats, "code": code_types}[measure]
        kind = pa.struct([("value", pa.string()), ("sure", pa.float64())])
        pairs = _distinct(
            self.texts,
            lambda texts: [{"value": value, "sure": sure} for value, sure in named(texts)],
            kind,
        )
        return Measured(*(pc.struct_field(pairs, at) for at in range(2)))

    def lacks(self, measure: str) -> str | None:
        """What a measure needs and has not, None where nothing is missing."""
        if measure == "tokens" and self.tokenizer is None:
            return "no tokenizer counts tokens: --tokenizer URI"
        if measure == "untranslated" and self.prompts is None:
            return "nothing says what was translated: --prompt COLUMN"
        return None


def token_counter(where: str) -> Callable[[list[str]], list[int]]:
    """Counts tokens with the tokenizer of a model that is known by name, of a folder, or a file.
    Raises PomonaError where there is none.
    """
    from tokenizers import Tokenizer

    from pomona.models import folder_of

    place = Path(where) if Path(where).exists() else Path(folder_of(where))
    file = place if place.is_file() else place / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises plain exceptions
        remedy = "name a model or a file tokenizer.json"
        raise PomonaError("no tokenizer can be read", where=file, remedy=remedy) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def count(texts: list[str]) -> list[int]:
        found = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [len(one.ids) for one in found]

    return count


def _certain(values: pa.Array) -> Measured:
    return Measured(values, pc.if_else(values.is_valid(), 1.0, None))


def _distinct(texts: pa.Array, told: Callable[[list[str]], list[Any]], kind: pa.DataType) -> Any:
    """What is said of each text, each distinct one asked about once; nulls stay null."""
    coded = texts.dictionary_encode()
    return pa.array(told(coded.dictionary.to_pylist()), kind).take(coded.indices)


def _characters(texts: pa.Array) -> pa.Array:
    return pc.utf8_length(texts).cast(pa.int64())


def _words(texts: pa.Array) -> pa.Array:
    return _distinct(texts, lambda several: [count_words(one) for one in several], pa.int64())


def _sentences(texts: pa.Array) -> pa.Array:
    """Ends of sentences, and one for a rest behind the last. A full stop within a word is none."""
    ends = pc.count_substring_regex(texts, _END).cast(pa.int64())
    ended = pc.match_substring_regex(texts, _ENDED)
    blank = pc.match_substring_regex(texts, r"^\s*$")
    more = pc.and_not(pc.invert(ended), blank)
    return pc.add(ends, more.cast(pa.int64()))


def _paragraphs(texts: pa.Array) -> pa.Array:
    """Blocks of lines with blank lines between."""
    inner = pc.utf8_trim_whitespace(texts)
    breaks = pc.count_substring_regex(inner, r"\n[ \t\r]*\n\s*").cast(pa.int64())
    return pc.add(breaks, pc.not_equal(inner, "").cast(pa.int64()))


_NUMBERS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "characters": _characters,
    "words": _words,
    "sentences": _sentences,
    "paragraphs": _paragraphs,
}


def _untranslated(texts: pa.Array, prompts: pa.Array) -> pa.Array:
    """Whether the answer is its source again; null where there is no word to translate."""
    trim = pc.utf8_trim_whitespace
    same = pc.equal(trim(texts), trim(prompts))

    def worded(several: list[str]) -> list[bool]:
        return [bool(letters_by_script(prose(one))) for one in several]

    return pc.if_else(_distinct(prompts, worded, pa.bool_()), pc.if_else(same, "yes", "no"), None)


def _languages(texts: list[str]) -> list[tuple[str | None, float | None]]:
    found: list[tuple[str | None, float | None]] = []
    for text in texts:
        words = prose(text)
        name, sure = detect(words) if letters_by_script(words) else (None, 0.0)
        found.append((name, sure) if name is not None and sure >= _LEAST else (None, None))
    return found


def buckets(
    values: pa.Array, names: list[str], edges: list[float] | None, groups: pa.Array | None
) -> pa.Array:
    """The name of each value's bucket: the edge is the least value of the next. Without edges the
    quantiles of each group, the largest values in the first, equal values in one; null where a
    group has fewer rows than there are buckets or one value alone, or the value or the group is not
    known.
    """
    numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    known = np.isfinite(numbers)
    bucket = np.full(len(numbers), -1)
    if edges is not None:
        bucket[known] = np.searchsorted(edges, numbers[known], side="right")
    else:
        coded = None if groups is None else groups.dictionary_encode().indices
        codes = (
            np.zeros(len(numbers), np.int64)
            if coded is None
            else coded.fill_null(-1).to_numpy(zero_copy_only=False)
        )
        order = np.argsort(codes, kind="stable")
        order = order[known[order] & (codes[order] >= 0)]
        starts = np.flatnonzero(np.diff(codes[order], prepend=-2))
        for rows in np.split(order, starts[1:]):
            _, place, counts = np.unique(numbers[rows], return_inverse=True, return_counts=True)
            if len(rows) >= len(names) and len(counts) > 1:
                # Where the middle of each value's rows is, from the end, in halves of a row.
                middle = 2 * (len(rows) - np.cumsum(counts)) + counts
                bucket[rows] = (len(names) * middle // (2 * len(rows)))[place]
    return pa.array(names).take(pa.array(bucket, mask=bucket < 0))
