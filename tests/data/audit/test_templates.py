"""Pruning of instruction templates."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from pomona.data.audit import prune_templates
from pomona.data.audit.templates import _near_identical, grams
from pomona.errors import PomonaError
from pomona.records import read, write

ANSWER = "The capital of {} is a large city by the river."


def table(*rows: tuple[str, str, int | None]) -> pa.Table:
    return pa.Table.from_pylist(
        [{"n": n, "prompt": p, "completion": c, "reviews": r} for n, (p, c, r) in enumerate(rows)]
    )


def kept(path: Path) -> list[int]:
    return read(path).to_table()["n"].to_pylist()


def test_reasons_are_counted_and_rows_keep_order_and_columns(tmp_path: Path) -> None:
    rows = table(
        ("What is the capital of France?", ANSWER.format("France"), 3),
        ("What is the capital of Spain, please tell me?", "", 3),
        ("Name the capital of Italy, that old country.", "  \n ", 3),
        ("And the one of Germany, if you know it?", "Berlin", 3),
        ("Tell me of the largest city of Poland!", ANSWER.format("Poland"), 1),
        ("Do you know anything about Norwegian towns?", ANSWER.format("Norway"), None),
        ("What is the capital of France ?", ANSWER.format("France"), 5),
        ("日本の首都はどこですか。教えてください。", "東京は日本の首都です。", 2),
    )
    card = prune_templates(
        rows,
        tmp_path / "out.parquet",
        prompt="prompt",
        completion="completion",
        reviews="reviews",
        threshold=0.8,
    )
    assert card.removed == {
        "empty completion": 2,
        "short completion": 1,
        "unreviewed": 2,
        "near-identical template": 1,
    }
    assert (card.rows_in, card.rows_out) == (8, 2)
    assert kept(tmp_path / "out.parquet") == [6, 7]
    assert read(tmp_path / "out.parquet").column_names == rows.column_names
    assert (tmp_path / "out.parquet.card.json").exists()
    assert card.signature.startswith(
        "prune-templates|prompt:prompt|completion:completion|reviews:reviews|min_reviews:2|min_words:3|threshold:0.8|"
    )


def test_without_reviews_the_first_stays_and_nothing_is_unreviewed(tmp_path: Path) -> None:
    rows = table(
        ("What is the capital?", ANSWER, 0),
        ("What is the capital? ", ANSWER, 9),
        ("What is the capital?", "It is not known to me today.", 0),
    )
    card = prune_templates(rows, tmp_path / "out.jsonl", prompt="prompt", completion="completion")
    assert card.removed == {"near-identical template": 1}
    assert kept(tmp_path / "out.jsonl") == [0, 2]


def test_reviewers_may_be_a_list(tmp_path: Path) -> None:
    rows = pa.table(
        {
            "n": [0, 1, 2],
            "p": ["one prompt", "quite another", "and a third one"],
            "c": [ANSWER, "Some other text here", "And more of it"],
            "who": [["ann", "bob"], ["ann", "ann"], []],
        }
    )
    card = prune_templates(
        rows, tmp_path / "out.parquet", prompt="p", completion="c", reviews="who"
    )
    assert card.removed == {"unreviewed": 2}
    assert kept(tmp_path / "out.parquet") == [0]


def test_chains_do_not_swallow_what_is_not_alike(tmp_path: Path) -> None:
    one, two, three = (("abcdefghijklmnopqrstuvwxyz0123456789" * 2)[i : i + 30] for i in (0, 4, 8))
    rows = table((one, ANSWER, 0), (two, ANSWER, 0), (three, ANSWER, 0))
    prune_templates(
        rows, tmp_path / "out.parquet", prompt="prompt", completion="completion", threshold=0.7
    )
    assert kept(tmp_path / "out.parquet") == [0, 2]


@given(
    st.lists(st.tuples(st.text("ab ", max_size=12), st.text("ab", max_size=9)), max_size=12),
    st.sampled_from([0.1, 0.5, 0.8, 1.0]),
)
def test_equals_comparing_all_pairs(pairs: list[tuple[str, str]], threshold: float) -> None:
    def jaccard(one: str, other: str) -> float:
        return len(grams(one) & grams(other)) / len(grams(one) | grams(other))

    dropped: set[int] = set()
    for other, place in sorted(
        combinations(range(len(pairs)), 2), key=lambda pair: (pair[1], pair[0])
    ):
        if (
            other not in dropped
            and min(map(jaccard, pairs[place], pairs[other])) >= threshold - 1e-12
        ):
            dropped.add(place)
    assert (
        set(_near_identical([p for p, _ in pairs], [c for _, c in pairs], threshold, None))
        == dropped
    )


def test_many_completions_of_one_prompt_are_kept(tmp_path: Path) -> None:
    rows = table(
        *(
            ("Write a story.", f"{i * 7919 % 1000:03} once upon a time in {i * 104729 % 997:03}", 0)
            for i in range(300)
        )
    )
    told: list[tuple[int, int]] = []
    prune_templates(
        rows,
        tmp_path / "o.parquet",
        prompt="prompt",
        completion="completion",
        progress=lambda *done: told.append(done),
    )
    assert kept(tmp_path / "o.parquet") == list(range(300))
    assert told[-1] == (300, 300)


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    card = prune_templates(
        table(("p", "", 0)),
        tmp_path / "out.parquet",
        prompt="prompt",
        completion="completion",
        dry_run=True,
    )
    assert card.removed == {"empty completion": 1}
    assert list(tmp_path.iterdir()) == []


def test_nothing_left_is_an_empty_table(tmp_path: Path) -> None:
    prune_templates(
        table(("p", "", 0)), tmp_path / "out.parquet", prompt="prompt", completion="completion"
    )
    assert kept(tmp_path / "out.parquet") == []


def test_bad_input_is_named(tmp_path: Path) -> None:
    out, names = tmp_path / "out.parquet", {"prompt": "prompt", "completion": "completion"}
    good = table(("a prompt", ANSWER, 2))
    with pytest.raises(PomonaError, match="there are no rows — give a table with rows"):
        prune_templates(good.slice(0, 0), out, **names)
    with pytest.raises(PomonaError, match='there is no column "review" — did you mean "reviews"'):
        prune_templates(good, out, **names, reviews="review")
    write(pa.table({"prompt": ["a", "b"], "completion": ["x", None]}), tmp_path / "in.parquet")
    with pytest.raises(
        PomonaError,
        match=r'in.parquet, row 2: column "completion" is null — fill it, or leave such rows out: --on-error drop',
    ):
        prune_templates(tmp_path / "in.parquet", out, **names)
    for value in ("two", -1, 1.5, float("nan")):
        odd = pa.table({"prompt": ["a"], "completion": [ANSWER], "reviews": [value]})
        with pytest.raises(
            PomonaError,
            match=(
                f'row 1: "{value}" in column "reviews" is no number of reviews — give a count '
                "from 0"
            ),
        ):
            prune_templates(odd, out, **names, reviews="reviews")
    with pytest.raises(PomonaError, match="threshold: 0 is not a similarity above 0"):
        prune_templates(good, out, **names, threshold=0)
    with pytest.raises(PomonaError, match="min_words: -1 is below 0"):
        prune_templates(good, out, **names, min_words=-1)
    assert not out.exists()
