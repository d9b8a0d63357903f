"""Neighbours within groups, and prompts that show them: examples near to what is asked, each with
its answer, before the question (neural fuzzy repair: Bulté & Tezcan 2019; Xu et al. 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.stats import rows_of
from pomona.tasks import fields_of
from pomona.text import Nearest

COPY = 0.8  # Jaccard of character 5-grams from which the embedded data calls texts near copies
FORM = "{prompt}{completion}"
_FURTHER = 8  # rows looked at beyond those wanted, since some are near copies


@dataclass(frozen=True)
class Found:
    """The nearest rows of a memory to each of n texts, among those of its group that share an
    n-gram with it: `rows[i]`, nearest first, with their `similarity[i]` in (0, 1]. `flops` `[n]`
    are those of finding them, `flops_once` of making the indexes, which take `bytes`.
    """

    rows: list[NDArray[np.intp]]
    similarity: list[NDArray[np.float64]]
    flops: NDArray[np.float64]
    flops_once: float
    bytes: int

    @property
    def nearest(self) -> NDArray[np.float64]:
        """The similarity of the nearest row of each text `[n]`; −1 where there is none."""
        return np.array([near[0] if len(near) else -1.0 for near in self.similarity])


def find(
    memory: Sequence[str],
    memory_groups: Sequence[str],
    texts: Sequence[str],
    groups: Sequence[str],
    k: int,
) -> Found:
    """The `k` rows of the memory nearest to each text, of the text's group alone. Raises
    PomonaError for a `k` below 1.
    """
    return _searched(memory, memory_groups, texts, groups, k, None)


def leave_one_out(
    texts: Sequence[str], groups: Sequence[str], k: int, *, copy: float = COPY
) -> Found:
    """The `k` rows nearest to each of the rows themselves, in its group, without the row and
    without near copies of it: those whose Jaccard index of character 5-grams is `copy` or more,
    equal texts among them. So a row sees what an unseen text would see after a split that keeps
    near copies together.
    """
    seen: dict[str, frozenset[str]] = {}

    def grams(text: str) -> frozenset[str]:
        if text not in seen:
            plain = " ".join(text.lower().split())
            seen[text] = frozenset(plain[i : i + 5] for i in range(max(1, len(plain) - 4)))
        return seen[text]

    def unlike(row: int, other: int) -> bool:
        return not _copies(grams(texts[row]), grams(texts[other]), copy)

    return _searched(texts, groups, texts, groups, k, unlike)


def _copies(one: frozenset[str], other: frozenset[str], copy: float) -> bool:
    least, most = sorted((len(one), len(other)))
    if least < copy * most - 1e-9:  # their sizes alone decide
        return False
    shared = len(one & other)
    return shared >= copy * (len(one) + len(other) - shared) - 1e-9


def _searched(
    memory: Sequence[str],
    memory_groups: Sequence[str],
    texts: Sequence[str],
    groups: Sequence[str],
    k: int,
    allowed: Callable[[int, int], bool] | None,
) -> Found:
    none = np.zeros(0, np.intp)
    rows, similarity = [none] * len(texts), [np.zeros(0)] * len(texts)
    flops, once, size = np.zeros(len(texts)), 0.0, 0
    stored = rows_of(memory_groups)
    for group, asked in rows_of(groups).items():
        if group not in stored:
            continue
        own = stored[group]
        index = Nearest([memory[int(row)] for row in own])
        once, size = once + index.flops, size + index.bytes
        left, most = np.asarray(asked), k
        while len(left):
            found = index.search([texts[int(row)] for row in left], most)
            flops[left] += found.flops
            short = []
            for row, near, like in zip(left, found.rows, found.similarity, strict=True):
                alike = own[near[like > 0]]
                kept = np.arange(len(alike))
                if allowed is not None:
                    kept = np.array([at for at in kept if allowed(row, alike[at])], np.intp)
                rows[row], similarity[row] = alike[kept[:k]], like[kept[:k]]
                if len(kept) < k and len(alike) == most < len(own):
                    short.append(row)
            left, most = np.array(short, np.intp), min(len(own), 4 * most + _FURTHER)
    return Found(rows, similarity, flops, once, size)


def shown(found: Found, k: int = 1, *, least: float = 0.0) -> list[list[int]]:
    """The rows to show with each text: the `k` nearest whose similarity is at least `least`."""
    return [
        [int(row) for row, like in zip(near[:k], alike[:k], strict=True) if like >= least]
        for near, alike in zip(found.rows, found.similarity, strict=True)
    ]


def shown_in_training(
    found: Found,
    k: int = 1,
    *,
    least: float = 0.0,
    without: float = 0.15,
    later: float = 0.25,
    seed: int = 0,
) -> list[list[int]]:
    """The rows to show with each text that is learned from: none in a share `without` of them, so
    that a model keeps answering by itself; from the second or the third on in a share `later` of
    the others, so that it learns to mistrust; else as `shown`.

    Raises PomonaError for shares outside of [0, 1].
    """
    for name, share in (("without", without), ("later", later)):
        if not 0 <= share <= 1:
            message, remedy = f"{name} is {share}", "give a share from 0 to 1"
            raise PomonaError(message, where="shown_in_training", remedy=remedy)
    chance = np.random.default_rng(seed).random((len(found.rows), 3))
    skipped = np.where(chance[:, 1] < later, np.where(chance[:, 2] < 0.5, 1, 2), 0)
    alone = chance[:, 0] < without
    rows = []
    for near, alike, skip, none in zip(found.rows, found.similarity, skipped, alone, strict=True):
        first = min(int(skip), max(0, len(near) - 1))
        part = slice(first, first + k)
        pairs = [] if none else zip(near[part], alike[part], strict=True)
        rows.append([int(row) for row, like in pairs if like >= least])
    return rows


def with_examples(
    prompts: Sequence[str],
    rows: Sequence[Sequence[int]],
    memory: Mapping[str, Sequence[str]],
    *,
    form: str = FORM,
) -> list[str]:
    """The prompts with the examples of each in front, the nearest next to the question.

    rows: what each shows, nearest first. memory: columns of text of the memory's rows; `form` is
    how one is shown, with {columns} in it, so that `{prompt}{completion}` shows it as the model
    reads it while it is trained. Raises PomonaError for a column that is not there.
    """
    for name in sorted(fields_of(form) - set(memory)):
        remedy = f"there are {', '.join(memory)}"
        raise PomonaError(f'there is no column "{name}"', where=f"form {form!r}", remedy=remedy)
    return [
        "".join(_example(form, memory, row) for row in reversed(near)) + prompt
        for prompt, near in zip(prompts, rows, strict=True)
    ]


def with_turns(
    messages: Sequence[Mapping[str, Any]],
    rows: Sequence[int],
    memory: Mapping[str, Sequence[str]],
    *,
    asked: str = "{prompt}",
    said: str = "{completion}",
) -> list[Mapping[str, Any]]:
    """A chat with the examples as earlier turns before its last user message, the nearest next to
    it; `asked` and `said` are the forms of the two turns.
    """
    users = [at for at, message in enumerate(messages) if message.get("role") == "user"]
    at = users[-1] if users else len(messages)
    turns: list[Mapping[str, Any]] = []
    for row in reversed(rows):
        turns.append({"role": "user", "content": _example(asked, memory, row)})
        turns.append({"role": "assistant", "content": _example(said, memory, row)})
    return [*messages[:at], *turns, *messages[at:]]


def _example(form: str, memory: Mapping[str, Sequence[str]], row: int) -> str:
    return form.format_map({name: column[row] for name, column in memory.items()})
