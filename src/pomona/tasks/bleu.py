"""Sentence BLEU of every candidate against every reference, equal to sacreBLEU's with effective
order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pomona.tasks.ngrams import intersections, postings

ORDER = 4
_SPLITS = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))


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


def tokens_13a(text: str) -> list[str]:
    """The tokens of mteval-v13a, as sacreBLEU cuts a line."""
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        line = line.replace(entity, character)
    line = f" {line} "
    for pattern, replacement in _SPLITS:
        line = pattern.sub(replacement, line)
    return line.split()


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
