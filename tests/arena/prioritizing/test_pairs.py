"""Pairs as they are read, and which votes are on which."""

from __future__ import annotations

import pyarrow as pa
import pytest

from pomona.arena import read_votes
from pomona.arena.prioritizing.pairs import observed, read_pairs
from pomona.errors import PomonaError

ROW = {
    "prompt": "p",
    "model_a": "x",
    "model_b": "y",
    "completion_a": "one",
    "completion_b": "two",
}


def _table(*changes: dict) -> pa.Table:
    return pa.Table.from_pylist([{**ROW, **one} for one in changes])


def test_a_pair_counts_once_in_either_order() -> None:
    turned = {"model_a": "y", "model_b": "x", "completion_a": "two", "completion_b": "one"}
    found = read_pairs(_table({}, turned, {}, {"completion_b": "three"}))
    assert len(found) == 2
    assert found.texts() == [("one", "two"), ("one", "three")]
    assert found.models == ["x", "y"]


def test_an_answer_is_one_prompts_and_one_models() -> None:
    found = read_pairs(_table({"completion_b": "one"}, {"prompt": "q"}))
    assert sorted(found.answers) == ["one", "one", "one", "two"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"completion_b": None}, 'row 2: has no "completion_b" — fill it in'),
        ({"prompt": None}, 'row 2: has no "prompt"'),
        ({"model_b": "x"}, 'row 2: has "x" on both sides — name two models'),
    ],
)
def test_a_row_that_is_no_pair_is_named(change: dict, text: str) -> None:
    with pytest.raises(PomonaError, match=text):
        read_pairs(_table({}, change))


def test_columns_and_rows_must_be_there() -> None:
    with pytest.raises(PomonaError, match="completion_a"):
        read_pairs(_table({}).drop_columns(["completion_a"]))
    with pytest.raises(PomonaError, match="has no rows"):
        read_pairs(_table({}).slice(0, 0))


def test_votes_are_on_their_prompt_and_models_in_either_order() -> None:
    pairs = read_pairs(_table({}, {"prompt": "q"}))
    votes = read_votes(
        pa.Table.from_pylist(
            [
                {"prompt": "q", "model_a": "y", "model_b": "x", "winner": "tie"},
                {"prompt": "p", "model_a": "x", "model_b": "y", "winner": "model_a"},
                {"prompt": "other", "model_a": "x", "model_b": "y", "winner": "tie"},
                {"prompt": "p", "model_a": "x", "model_b": "z", "winner": "tie"},
            ]
        )
    )
    seen = observed(pairs, votes)
    assert seen.pair.tolist() == [1, 0, -1, -1]
    assert seen.votes.tolist() == [1, 1]
    assert seen.ties.tolist() == [0, 1]


def test_of_several_pairs_the_one_that_was_shown_has_the_vote() -> None:
    rows = _table({}, {"completion_b": "three"})
    told = rows.slice(1, 1).append_column("winner", pa.array(["tie"]))
    assert observed(read_pairs(rows), read_votes(told)).pair.tolist() == [1]
    with pytest.raises(PomonaError, match="no vote is on a pair"):
        observed(read_pairs(rows), read_votes(told.drop_columns(["completion_a"])))


def test_votes_on_other_pairs_are_refused_with_what_to_do() -> None:
    votes = read_votes(
        pa.Table.from_pylist([{"prompt": "z", "model_a": "x", "model_b": "y", "winner": "tie"}])
    )
    with pytest.raises(PomonaError, match=r"no vote is on a pair of .* — both name prompts"):
        observed(read_pairs(_table({})), votes)
    with pytest.raises(PomonaError, match='there is no column "prompt"'):
        observed(
            read_pairs(_table({})),
            read_votes(pa.Table.from_pylist([{"model_a": "x", "model_b": "y", "winner": "tie"}])),
        )
