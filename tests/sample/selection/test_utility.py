"""The scores that selections stand on, against sacreBLEU."""

from __future__ import annotations

import numpy as np
from hypothesis import given, strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from pomona.sample.selection.mbr import textual

WORDS = st.sampled_from(
    [
        "the",
        "cat",
        "sat",
        "on",
        "mat.",
        "3,5",
        "1.2",
        "a-b",
        "5-3",
        "Don't",
        "&quot;x&amp;",
        "<skipped>",
        "-\n",
        "\n",
        "für",
        "猫",
        "(",
        "$4",
    ]
)
TEXTS = st.lists(WORDS, max_size=9).map(" ".join)
POOLS = st.lists(TEXTS | st.text(max_size=12), min_size=1, max_size=5)


@given(POOLS, POOLS)
def test_bleu_is_sacrebleus_sentence_bleu(candidates: list[str], evidence: list[str]) -> None:
    metric = BLEU(effective_order=True)
    theirs = [[metric.sentence_score(c, [e]).score for e in evidence] for c in candidates]
    assert np.abs(textual("bleu", candidates, evidence) - theirs).max() < 1e-9


@given(POOLS, POOLS)
def test_chrf_is_sacrebleus_sentence_chrf(candidates: list[str], evidence: list[str]) -> None:
    metric = CHRF()
    theirs = [[metric.sentence_score(c, [e]).score for e in evidence] for c in candidates]
    assert np.abs(textual("chrf", candidates, evidence) - theirs).max() < 1e-9
