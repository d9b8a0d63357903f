"""chrF and chrF++ (Popović 2015, 2017), equal to sacreBLEU's, and chrF of every candidate against
every reference of a pool.
"""

from __future__ import annotations

import itertools
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pomona.tasks._metrics import References, flat_references

SACREBLEU = "2.6.0"  # the release whose scores these are
_PUNCTUATION = frozenset(string.punctuation)


@dataclass(frozen=True)
class Chrf:
    """Character n-gram F-score, in [0, 100]; with `word_order=2` it is chrF++.

    The definition is sacreBLEU's default: whitespace removed, case kept, precision and recall
    averaged over the orders both sides have ("effective order"), then one F-score that weighs
    recall `beta` times. `references` is the number of references an item has, None when it varies
    from item to item.
    """

    char_order: int = 6
    word_order: int = 0
    beta: int = 2
    references: int | None = 1
    reads = "text"
    higher_is_better = True

    @property
    def name(self) -> str:
        """See `Metric`."""
        return "chrf" + ("" if self.beta == 2 else str(self.beta)) + "+" * self.word_order

    @property
    def signature(self) -> str:
        """The signature sacreBLEU prints for the same score."""
        references = self.references or "var"
        orders = f"nc:{self.char_order}|nw:{self.word_order}"
        return f"nrefs:{references}|case:mixed|eff:yes|{orders}|space:no|version:{SACREBLEU}"

    def statistics(self, outputs: Sequence[str], references: References, /) -> NDArray[np.float64]:
        """(output, reference, match) n-gram counts per order, characters first, float64
        `[n, 3 * (char_order + word_order)]`.

        `references[i]` is one string, or the strings of item i: the one with the best sentence
        score counts, the first if several do. Raises PomonaError for lists of different length and
        for an item with another number of references than the metric has.
        """
        pool, begin = flat_references(outputs, references, self.references)
        if begin is None:
            return self._pair_statistics(outputs, pool)
        owner = np.repeat(np.arange(len(outputs)), np.diff(begin))
        rows = self._pair_statistics([outputs[int(i)] for i in owner], pool)
        scores = self.aggregate(rows)
        best = [a + int(np.argmax(scores[a:b])) for a, b in itertools.pairwise(begin)]
        return rows[best] if best else rows

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The score of summed statistics, `[..., 3 * orders]` to `[...]`. Without any common order
        it is 0.
        """
        sums = np.asarray(sums, dtype=np.float64)
        precision, recall, effective = (np.zeros(sums.shape[:-1]) for _ in range(3))
        for at in range(0, sums.shape[-1], 3):
            hyp, ref, match = sums[..., at], sums[..., at + 1], sums[..., at + 2]
            both = (hyp > 0) & (ref > 0)
            precision += np.divide(match, hyp, out=np.zeros_like(hyp), where=both)
            recall += np.divide(match, ref, out=np.zeros_like(ref), where=both)
            effective += both
        precision /= np.maximum(effective, 1)
        recall /= np.maximum(effective, 1)
        product = (1 + self.beta**2) * precision * recall
        weighted = self.beta**2 * precision + recall
        return 100 * np.divide(product, weighted, out=np.zeros_like(product), where=weighted > 0)

    def _pair_statistics(
        self, outputs: Sequence[str], references: Sequence[str]
    ) -> NDArray[np.float64]:
        from pomona.tasks.ngrams import pair_statistics

        n = len(outputs)
        codes, starts = _encode(itertools.chain(map(_squeeze, outputs), map(_squeeze, references)))
        pairs = np.arange(n)
        counts = pair_statistics(codes, starts, pairs, pairs + n, self.char_order)
        characters, order = counts.astype(np.float64), self.word_order
        if not order:
            return characters
        rows = [_word_statistics(*pair, order) for pair in zip(outputs, references, strict=True)]
        return np.hstack([characters, np.array(rows, dtype=np.float64).reshape(n, 3 * order)])


def pairwise(candidates: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """Sentence chrF of every candidate against every reference, float64
    `[len(candidates), len(references)]`, as `Chrf()` scores pairs.

    Made for minimum-Bayes-risk choice over one pool: equal strings are counted once, and so are the
    two directions of a pair (the shared n-grams are the same). Memory grows with candidates ×
    references.
    """
    from pomona.tasks.ngrams import pool_scores

    left, right = [_squeeze(text) for text in candidates], [_squeeze(text) for text in references]
    in_left, in_right = dict.fromkeys(left), dict.fromkeys(right)
    both = [text for text in in_left if text in in_right]
    distinct = (
        [t for t in in_left if t not in in_right] + both + [t for t in in_right if t not in in_left]
    )
    number = {text: i for i, text in enumerate(distinct)}
    first_reference = len(in_left) - len(both)
    codes, starts = _encode(distinct)
    metric = Chrf()
    scores = pool_scores(
        codes, starts, len(in_left), first_reference, metric.char_order, float(metric.beta)
    )
    columns = [number[text] - first_reference for text in right]
    return scores[np.ix_([number[text] for text in left], columns)]


def _squeeze(text: str) -> str:
    return "".join(text.split())


def _encode(texts: Iterable[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Code points end to end and where each text starts, as `ngrams` wants them."""
    texts = list(texts)
    starts = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in texts], out=starts[1:])
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return codes.astype(np.int64), starts


def _words(text: str) -> list[str]:
    """Words with one punctuation mark cut off, from the end or else from the start: chrF++.py's
    tokeniser.
    """
    words: list[str] = []
    for word in text.split():
        if len(word) > 1 and word[-1] in _PUNCTUATION:
            words += [word[:-1], word[-1]]
        elif len(word) > 1 and word[0] in _PUNCTUATION:
            words += [word[0], word[1:]]
        else:
            words.append(word)
    return words


def _word_statistics(output: str, reference: str, order: int) -> list[int]:
    row: list[int] = []
    hyp, ref = _words(output), _words(reference)
    for n in range(1, order + 1):
        hyp_grams = Counter(zip(*(hyp[i:] for i in range(n)), strict=False))
        ref_grams = Counter(zip(*(ref[i:] for i in range(n)), strict=False))
        count = hyp_grams.total() if ref_grams else 0
        row += [count, ref_grams.total(), (hyp_grams & ref_grams).total()]
    return row
