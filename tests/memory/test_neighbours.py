"""Neighbours within groups, leave-one-out, and the prompts that show them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from pomona.errors import PomonaError
from pomona.memory import (
    find,
    leave_one_out,
    shown,
    shown_in_training,
    with_examples,
    with_turns,
)
from pomona.text import Nearest

SOURCES = ["Save page", "Save pages", "Delete page", "Save", "Save page", "Log out"]
GROUPS = ["de", "de", "de", "de", "fr", "fr"]
WORDS = st.lists(
    st.sampled_from(["save", "page", "delete", "user", "the", "a"]), min_size=1, max_size=6
)
ROWS = st.lists(st.tuples(WORDS.map(" ".join), st.sampled_from("ab")), min_size=1, max_size=12)


def jaccard(one: str, other: str) -> float:
    a, b = ({text[i : i + 5] for i in range(max(1, len(text) - 4))} for text in (one, other))
    return len(a & b) / len(a | b)


def test_neighbours_are_of_the_own_group() -> None:
    found = find(SOURCES, GROUPS, ["Save the page", "Save the page", "Save"], ["de", "fr", "xx"], 2)
    assert [rows.tolist() for rows in found.rows] == [[0, 1], [4], []]
    index = Nearest(SOURCES[:4])
    alone = index.search(["Save the page"], 2)
    np.testing.assert_array_equal(found.similarity[0], alone.similarity[0])
    assert found.flops[0] == alone.flops[0] and found.flops[2] == 0
    assert found.bytes == index.bytes + Nearest(SOURCES[4:]).bytes
    assert found.nearest.tolist() == [found.similarity[0][0], found.similarity[1][0], -1]


@settings(max_examples=60, deadline=None)
@given(ROWS, st.integers(1, 4))
def test_leave_one_out_is_a_search_of_all_without_near_copies(
    rows: list[tuple[str, str]], k: int
) -> None:
    texts, groups = [row[0] for row in rows], [row[1] for row in rows]
    found = leave_one_out(texts, groups, k)
    for at, (text, group) in enumerate(rows):
        own = [i for i, other in enumerate(groups) if other == group]
        every = Nearest([texts[i] for i in own]).search([text], len(own))
        expected = [
            (own[i], like)
            for i, like in zip(every.rows[0], every.similarity[0], strict=True)
            if like > 0 and jaccard(text, texts[own[i]]) < 0.8 - 1e-9
        ][:k]
        assert found.rows[at].tolist() == [i for i, _ in expected]
        np.testing.assert_allclose(found.similarity[at], [like for _, like in expected])


def test_in_training_some_rows_see_none_and_some_a_later_one() -> None:
    texts = [
        f"{verb} {thing}" for verb in ("save", "drop", "open") for thing in map(str, range(99))
    ]
    found = leave_one_out(texts, ["a"] * len(texts), 4)
    rows = shown_in_training(found, 2, without=0.2, later=0.5, seed=3)
    assert rows == shown_in_training(found, 2, without=0.2, later=0.5, seed=3)
    first = [near[0] if near else None for near in rows]
    places = [
        None if row is None else near.tolist().index(row)
        for row, near in zip(first, found.rows, strict=True)
    ]
    shares = [places.count(place) / len(places) for place in (None, 0, 1, 2)]
    assert shares == pytest.approx([0.2, 0.4, 0.2, 0.2], abs=0.07)
    assert shown_in_training(found, 2, without=0, later=0) == shown(found, 2)
    least = shown(found, 4, least=0.6)
    assert all(
        found.similarity[at][found.rows[at].tolist().index(row)] >= 0.6
        for at, near in enumerate(least)
        for row in near
    )
    with pytest.raises(PomonaError, match="shown_in_training: without is 2 — give a share from 0"):
        shown_in_training(found, without=2)


def test_examples_stand_before_the_question_the_nearest_last() -> None:
    memory = {
        "prompt": ["<|de|>Save<|to|>", "<|de|>Page<|to|>"],
        "completion": ["Sichern {x}", "Seite"],
    }
    asked = ["<|de|>Save page<|to|>", "<|de|>Log out<|to|>"]
    assert with_examples(asked, [[0, 1], []], memory) == [
        "<|de|>Page<|to|>Seite<|de|>Save<|to|>Sichern {x}<|de|>Save page<|to|>",
        "<|de|>Log out<|to|>",
    ]
    assert with_examples(["Q"], [[1]], memory, form="{completion}\n") == ["Seite\nQ"]
    with pytest.raises(PomonaError, match='there is no column "text" — there are prompt, complet'):
        with_examples(asked, [[], []], memory, form="{text}")
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "Q"}]
    assert with_turns(chat, [1, 0], memory) == [
        chat[0],
        {"role": "user", "content": "<|de|>Save<|to|>"},
        {"role": "assistant", "content": "Sichern {x}"},
        {"role": "user", "content": "<|de|>Page<|to|>"},
        {"role": "assistant", "content": "Seite"},
        chat[1],
    ]
