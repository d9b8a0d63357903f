"""Pruning of instruction templates as in Aya: empty or short answers, templates nobody reviewed,
and templates that are nearly the same.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pomona.data.audit.rows import FileRows, InputRows, Inputs
from pomona.data.work import results_of
from pomona.errors import PomonaError
from pomona.records import Card, as_records
from pomona.text import count_words

Grams = frozenset[str]
EMPTY, SHORT, UNREVIEWED, SAME = (
    "empty completion",
    "short completion",
    "unreviewed",
    "near-identical template",
)


def prune_templates(
    inputs: Inputs,
    out: str | Path,
    *,
    prompt: str,
    completion: str,
    reviews: str | None = None,
    min_reviews: int = 2,
    min_words: int = 3,
    threshold: float = 0.9,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Card:
    """Keep instruction templates that are reviewed, say enough, and differ from one another.

    Keep the templates worth training on, after Singh et al. 2024 (Aya Dataset, arXiv 2402.06619)
    and Üstün et al. 2024 (2402.07827).

    Removed are, for the first reason that holds: an empty completion; one of fewer than `min_words`
    words (two letters count as a word in scripts without spaces); fewer than `min_reviews`
    reviewers, where `reviews` names a column of counts or of lists of reviewers (null is none); and
    a template so like another one that is kept that the prompts, and the completions too, have a
    Jaccard similarity of character 5-grams of at least `threshold`, exactly computed. Of
    near-identical ones that with the most reviews stays, then the first. The Aya papers give no
    numbers for shortness and similarity: the defaults are this package's.

    Args:
        out: File of what is kept.
        prompt: Prompt: a column or a template, or what users say (messages.user).
        completion: Completion, likewise (messages.assistant).
        reviews: Column with the number of reviews.
        min_reviews: Reviews a template needs.
        min_words: Words a completion needs.
        threshold: Jaccard similarity from which two templates are near-identical.
        dry_run: Only count; write nothing.

    Raises:
        PomonaError: a column is missing, of the wrong type or null, or a limit is out of range.
    """
    _check(min_reviews, min_words, threshold)
    rows = InputRows(
        inputs, [prompt, completion], [prompt, completion], [reviews] if reviews else []
    )
    if reviews:
        rows.records.require(reviews)
    with results_of([rows.records], {"out": out}, dry_run=dry_run) as results:
        prompts, completions, reviewers = _columns(rows, prompt, completion, reviews)
        if not rows.count:
            where = rows.records.source.where
            raise PomonaError("there are no rows", where=where, remedy="give a table with rows")
        reasons: list[str | None] = [
            _reason(answer, min_words, None if reviewers is None else reviewers[place], min_reviews)
            for place, answer in enumerate(completions)
        ]
        left = [place for place, reason in enumerate(reasons) if reason is None]
        order = sorted(left, key=lambda place: 0 if reviewers is None else -reviewers[place])
        for place in _near_identical(
            [prompts[place] for place in order],
            [completions[place] for place in order],
            threshold,
            progress,
        ):
            reasons[order[place]] = SAME
        keep = [place for place, reason in enumerate(reasons) if reason is None]
        removed = dict(Counter(reason for reason in reasons if reason))
        parameters = {
            "prompt": prompt,
            "completion": completion,
            "reviews": reviews,
            "min_reviews": min_reviews if reviews else None,
            "min_words": min_words,
            "threshold": threshold,
        }
        card = Card(
            "prune-templates",
            parameters,
            rows.inputs,
            rows.count,
            len(keep),
            removed,
            left_out=rows.records.rejected,
        )
        if not dry_run:
            taken = rows.records.to_table().take(pa.array(keep, pa.int64()))
            results.write("out", as_records(taken))
            card = results.publish(card)
    return card


def _check(min_reviews: int, min_words: int, threshold: float) -> None:
    for name, value in (("min_reviews", min_reviews), ("min_words", min_words)):
        if value < 0:
            raise PomonaError(
                f"{value} is below 0", where=name, remedy="use 0 to remove none for this reason"
            )
    if not 0 < threshold <= 1:
        raise PomonaError(
            f"{threshold} is not a similarity above 0 and up to 1",
            where="threshold",
            remedy="use 0.9",
        )


def _columns(
    rows: InputRows, prompt: str, completion: str, reviews: str | None
) -> tuple[list[str], list[str], list[int] | None]:
    prompts: list[str] = []
    completions: list[str] = []
    reviewers: list[int] = []
    for batch in rows.batches():
        prompts += batch.texts(prompt)
        completions += batch.texts(completion)
        if reviews:
            reviewers += [
                _reviewers(value, batch, index, reviews)
                for index, value in enumerate(batch.texts(reviews))
            ]
    return prompts, completions, reviewers if reviews else None


def _reviewers(value: Any, batch: FileRows, index: int, column: str) -> int:
    if value is None:
        return 0
    if isinstance(value, list):
        return len({str(name) for name in value if name is not None})
    try:
        count = int(value)
    except (TypeError, ValueError, OverflowError):
        count = -1
    if count < 0 or isinstance(value, bool) or float(value) != count:
        remedy = "give a count from 0, or a list of reviewers"
        raise PomonaError(
            f'"{value}" in column "{column}" is no number of reviews',
            where=batch.at(index),
            remedy=remedy,
        )
    return count


def _reason(completion: str, min_words: int, reviewers: int | None, min_reviews: int) -> str | None:
    if not completion.strip():
        return EMPTY
    if count_words(completion) < min_words:
        return SHORT
    return UNREVIEWED if reviewers is not None and reviewers < min_reviews else None


def grams(text: str) -> Grams:
    """The character 5-grams of a text in lower case with white space as single spaces; a shorter
    text is its own gram.
    """
    text = " ".join(text.lower().split())
    return frozenset(text[i : i + 5] for i in range(max(1, len(text) - 4)))


def _near_identical(
    prompts: Sequence[str],
    completions: Sequence[str],
    threshold: float,
    progress: Callable[[int, int], None] | None,
) -> list[int]:
    """The places of those so like an earlier one that stays.

    An exact join by prefix filtering (Bayardo, Ma and Srikant 2007): two sets with J ≥ t share one
    of their |x| − ⌈t·|x|⌉ + 1 rarest grams, so that only those are looked up. Where J ≥ t for the
    prompts and for the completions, it is so for the sets of both together.
    """
    pairs = [(grams(one), grams(other)) for one, other in zip(prompts, completions, strict=True)]
    frequency = Counter(gram for pair in pairs for gram in _both(*pair))
    index: dict[str, list[int]] = defaultdict(list)
    same: list[int] = []
    for place, pair in enumerate(pairs):
        mine = _both(*pair)
        rarest = sorted(mine, key=lambda gram: (frequency[gram], gram))[
            : len(mine) - math.ceil(threshold * len(mine) - 1e-9) + 1
        ]
        others = sorted({other for gram in rarest for other in index[gram]})
        if any(
            all(_alike(one, two, threshold) for one, two in zip(pair, pairs[other], strict=True))
            for other in others
        ):
            same.append(place)
        else:
            for gram in rarest:
                index[gram].append(place)
        if progress and (place % 256 == 255 or place == len(pairs) - 1):
            progress(place + 1, len(pairs))
    return same


def _both(prompt: Grams, completion: Grams) -> Grams:
    return frozenset({f"p{gram}" for gram in prompt} | {f"c{gram}" for gram in completion})


def _alike(one: Grams, other: Grams, threshold: float) -> bool:
    shared = len(one & other)
    return shared >= threshold * (len(one) + len(other) - shared) - 1e-9
