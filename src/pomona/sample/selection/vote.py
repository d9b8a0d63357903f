"""Self-consistency: the answer that most candidates arrive at. Wang et al. 2023 (arXiv 2203.11171),
§2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pomona.models.chat.protocol import Reply
from pomona.sample.selection.choice import Choice, Desk, text_of
from pomona.sample.selection.extract import extractor


async def vote(desk: Desk, pool: Sequence[Reply]) -> Choice:
    """Scores are shares of the votes. Ties go to the greedy candidate, else to the first; without
    any answer the first is taken.
    """
    answers = extracted(desk.strategy.extract, [text_of(reply) for reply in pool])
    counts = Counter(answer for answer in answers if answer is not None)
    scores = tuple(counts[answer] / len(pool) if answer is not None else 0.0 for answer in answers)
    chosen = max(range(len(pool)), key=lambda at: (scores[at], pool[at].temperature == 0, -at))
    return Choice(chosen, scores, {"answers": answers})


def extracted(how: str, texts: Sequence[str]) -> list[str | None]:
    """The answer in each text."""
    find = extractor(how)
    return [find(text) for text in texts]
