"""BLEU (Papineni et al. 2002), equal to sacreBLEU's, and sentence BLEU of every candidate against
every reference of a pool.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pomona.tasks._metrics import References, flat_references
from pomona.tasks.chrf import SACREBLEU
from pomona.tasks.ngrams import intersections, pair_statistics, postings

ORDER = 4
_SPLITS = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


@dataclass(frozen=True)
class Bleu:
    """Geometric mean of the precisions of word n-grams, orders 1 to 4, times a penalty for being
    short, in [0, 100].

    The definition is sacreBLEU's default: case kept, zero matches smoothed by halving ("exp"), and
    of several references the closest length, the shorter of two.

    tokenize: "13a" (mteval's), "char" for languages without blanks, "none" for tokens with blanks
        between.
    effective_order: leave out orders that no output is long enough for, as scores of single
        sentences need.
    references: how many an item has, None when it varies.
    """

    tokenize: Literal["13a", "char", "none"] = "13a"
    effective_order: bool = False
    references: int | None = 1
    reads = "text"
    higher_is_better = True

    @property
    def name(self) -> str:
        """See `Metric`."""
        parts = ["bleu"] + ([] if self.tokenize == "13a" else [self.tokenize])
        return "-".join(parts + (["effective"] if self.effective_order else []))

    @property
    def signature(self) -> str:
        """The signature sacreBLEU prints for the same score."""
        references, order = self.references or "var", "yes" if self.effective_order else "no"
        how = f"eff:{order}|tok:{self.tokenize}|smooth:exp|version:{SACREBLEU}"
        return f"nrefs:{references}|case:mixed|{how}"

    def statistics(self, outputs: Sequence[str], references: References, /) -> NDArray[np.float64]:
        """Words of output and reference, then the matching n-grams and those of the output, of each
        order: float64 `[n, 10]`. Raises PomonaError as `flat_references` does.
        """
        pool, begin = flat_references(outputs, references, self.references)
        cut = _TOKENIZERS[self.tokenize]
        if begin is None:
            reference, matches = _single(cut, outputs, pool)
        else:
            sets = [pool[a:b] for a, b in itertools.pairwise(begin)]
            reference, matches = _several(cut, outputs, sets)
        words = np.array([len(cut(text)) for text in outputs], np.int64)
        total = np.maximum(words[:, None] - np.arange(ORDER), 0)
        return np.column_stack([words, reference, matches, total]).astype(np.float64)

    def aggregate(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The score of summed statistics, `[..., 10]` to `[...]`."""
        sums = np.asarray(sums, np.float64)
        words, reference = sums[..., 0], sums[..., 1]
        matches, total = sums[..., 2 : 2 + ORDER], sums[..., 2 + ORDER :]
        used, zero = total > 0, (matches == 0) & (total > 0)
        smoothed = np.where(zero, 0.5 ** np.cumsum(zero, axis=-1), matches)
        logs = np.log(100 * np.divide(smoothed, total, out=np.ones(total.shape), where=used))
        orders = np.where(used, 1, 0).sum(axis=-1)
        mean = np.where(used, logs, 0.0).sum(axis=-1) / np.maximum(orders, 1)
        short = words < reference
        ratio = np.divide(reference, words, out=np.ones(words.shape), where=short & (words > 0))
        scores = np.exp(np.where(short, 1 - ratio, 0.0) + mean)
        known = matches.any(axis=-1) & (self.effective_order | (orders == ORDER))
        return np.where(known, scores, 0.0)


def pairwise_bleu(candidates: Sequence[str], references: Sequence[str]) -> NDArray[np.float64]:
    """Sentence BLEU, float64 `[len(candidates), len(references)]`, in [0, 100].

    Papineni et al. 2002 as sacreBLEU 2.6.0 scores sentences: tokenizer 13a, case kept, orders 1 to
    4 as far as the candidate has them, zero matches smoothed by halving ("exp"; Chen & Cherry 2014,
    method 3).
    """
    words: dict[str, int] = {}
    texts = list(dict.fromkeys([*candidates, *references]))
    codes = [
        np.array([words.setdefault(word, len(words)) for word in tokens_13a(text)], np.int64)
        for text in texts
    ]
    place = {text: at for at, text in enumerate(texts)}
    rows, columns = [place[text] for text in candidates], [place[text] for text in references]
    lengths = np.array([len(code) for code in codes], np.int64)
    matches = _matches(codes, lengths)[:, rows][:, :, columns]
    return _scores(matches, lengths[rows], lengths[columns])


@lru_cache(1 << 14)  # the references of a task come again with every system
def tokens_13a(text: str) -> tuple[str, ...]:
    """The tokens of mteval-v13a, as sacreBLEU cuts a line."""
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        line = line.replace(entity, character)
    line = f" {line} "
    for pattern, replacement in _SPLITS:
        line = pattern.sub(replacement, line)
    return tuple(line.split())


_TOKENIZERS: dict[str, Callable[[str], Sequence[str]]] = {
    "13a": tokens_13a,
    "char": lambda text: list("".join(text.split())),
    "none": str.split,
}


def _single(
    cut: Callable[[str], Sequence[str]], outputs: Sequence[str], references: Sequence[str]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Words of each reference `[n]`, and matches of each order with it `[n, ORDER]`."""
    codes: list[int] = []
    starts = [0]
    for output, reference in zip(outputs, references, strict=True):
        ids: dict[str, int] = {}  # of one pair, so that they stay small
        words = [ids.setdefault(word, len(ids)) for word in cut(reference)]
        codes += words
        starts.append(len(codes))
        codes += [ids.get(word, len(ids)) for word in cut(output)]
        starts.append(len(codes))
    at = np.arange(len(outputs))
    begin = np.array(starts, np.int64)
    counts = pair_statistics(np.array(codes, np.int64), begin, 2 * at + 1, 2 * at, ORDER)
    return np.diff(begin)[::2], counts[:, 2::3]


def _several(
    cut: Callable[[str], Sequence[str]], outputs: Sequence[str], sets: Sequence[Sequence[str]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The closest length of a reference `[n]`, and matches of each order, every n-gram counted as
    often as in the reference that has it most `[n, ORDER]`.
    """
    lengths = np.zeros(len(outputs), np.int64)
    matches = np.zeros((len(outputs), ORDER), np.int64)
    for row, (output, references) in enumerate(zip(outputs, sets, strict=True)):
        words, others = cut(output), [cut(text) for text in references]
        lengths[row] = min((abs(len(one) - len(words)), len(one)) for one in others)[1]
        most = _grams(others[0])
        for one in others[1:]:
            for gram, count in _grams(one).items():
                most[gram] = max(most[gram], count)
        for gram, count in _grams(words).items():
            if gram in most:
                matches[row, len(gram) - 1] += min(count, most[gram])
    return lengths, matches


def _grams(words: Sequence[str]) -> Counter[tuple[str, ...]]:
    """All n-grams up to ORDER, and how often each is there."""
    later = [words[n:] for n in range(ORDER)]
    several = (zip(*later[:n], strict=False) for n in range(1, ORDER + 1))
    return Counter(itertools.chain.from_iterable(several))


def _matches(codes: Sequence[NDArray[np.int64]], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Shared n-grams of every pair of texts, int64 `[ORDER, texts, texts]`."""
    count = len(codes)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    joined = np.concatenate([*codes, np.zeros(0, np.int64)])
    ids = np.zeros(joined.size, np.int64)
    shared = np.zeros((ORDER, count, count), np.int64)
    for n in range(1, ORDER + 1):
        first, text, times = postings(joined, starts, ids, n)
        intersections(first, text, times, shared[n - 1], count, 0)
        shared[n - 1] += shared[n - 1].T
        np.fill_diagonal(shared[n - 1], np.maximum(lengths - n + 1, 0))
    return shared


def _scores(
    matches: NDArray[np.int64], hypothesis: NDArray[np.int64], reference: NDArray[np.int64]
) -> NDArray[np.float64]:
    total = np.maximum(hypothesis[None, :] - np.arange(ORDER)[:, None], 0)[:, :, None]
    zero = (matches == 0) & (total > 0)
    smoothed = np.where(zero, 1.0 / 2.0 ** np.cumsum(zero, axis=0), matches)
    used = np.broadcast_to(total > 0, matches.shape)
    logs = np.log(np.divide(100 * smoothed, total, out=np.ones(matches.shape), where=used))
    orders = np.maximum(used.sum(axis=0), 1)
    short = hypothesis[:, None] < reference[None, :]
    where = short & (hypothesis[:, None] > 0)
    gap = np.divide(reference[None, :], hypothesis[:, None], out=np.ones(short.shape), where=where)
    scores = np.exp(np.where(short, 1 - gap, 0.0) + logs.sum(axis=0) / orders)
    return np.where(matches.any(axis=0), scores, 0.0)
