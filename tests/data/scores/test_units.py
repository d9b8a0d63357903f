from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, strategies as st

from pomona.data.scores import score, units
from pomona.data.scores.scoring import within_group, within_length
from pomona.data.scores.units import pieces, token_ids, windows
from pomona.errors import PomonaError
from pomona.models import load
from pomona.models.torch import Probe, Unit


@given(st.integers(0, 200), st.integers(1, 60), st.integers(2, 40))
def test_windows_score_every_token_once_and_fit(length: int, first: int, context: int) -> None:
    ids = np.arange(length, dtype=np.int32)
    units = windows(ids, first, context)
    scored = [int(token) for unit in units for token in unit.ids[unit.first :]]
    assert scored == list(range(first, length))
    for unit in units:
        assert len(unit.ids) <= context
        assert unit.first >= 1
        assert list(np.diff(unit.ids)) == [1] * (len(unit.ids) - 1)
    for unit in units[1:]:
        assert unit.first == 1


@given(st.text("ab  é", max_size=60))
def test_pieces_are_the_text(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "PIECE", 7)
        words = pieces(text)
    assert "".join(words) == text
    assert max(map(len, words)) <= 7
    assert all(words[1:])


def test_tokens_of_pieces_are_those_of_the_text(
    pairs: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = Probe(load("ui-xs", device="cpu")).codec
    texts = [" ".join(pairs["english"].to_pylist()[start : start + 10]) for start in (0, 10, 20)]
    whole = codec.completions(texts, end=False)
    monkeypatch.setattr(units, "PIECE", 50)
    assert [ids.tolist() for ids in token_ids(codec, [*texts, "Save"])] == [
        *whole,
        *codec.completions(["Save"], end=False),
    ]


def test_a_long_text_is_scored_in_windows(tmp_path: Path) -> None:
    probe = Probe(load("ui-xs", device="cpu"))
    text = "Delete the page of the user and save the draft. " * 20
    ids = np.array(probe.codec.completions([text], end=False)[0], np.int32)
    losses = [
        probe.token_scores([Unit(ids[max(0, at - 1) : at + 63 if at else 64], 1)])[0].loss
        for at in [0, *range(64, len(ids), 63)]
    ]
    assert sum(map(len, losses)) == len(ids) - 1
    score(pa.table({"text": [text]}), tmp_path / "out.parquet", models=["ui-xs"], context=64)
    found = pq.read_table(tmp_path / "out.parquet")["perplexity"][0].as_py()
    assert np.log(found) == pytest.approx(np.concatenate(losses).mean(), abs=1e-4)


def test_packed_rows_get_the_weighted_mean_of_their_contexts(tmp_path: Path) -> None:
    probe = Probe(load("ui-xs", device="cpu"))
    texts = [
        f"Delete the page number {n} of the user and save the draft. " * (n % 4 + 1)
        for n in range(12)
    ]
    end = probe.codec.end
    stream = [
        (token, row)
        for row, ids in enumerate(probe.codec.completions(texts, end=True))
        for token in ids
    ]
    assert stream[-1][0] == end
    total, weight = np.zeros(12), np.zeros(12)
    starts = [0, *range(64, len(stream), 63)]
    for at in starts:
        part = stream[max(0, at - 1) : at + 63 if at else 64]
        loss = probe.token_scores([Unit(np.array([token for token, _ in part], np.int32), 1)])[
            0
        ].loss.mean()
        for _, row in part[1:]:
            total[row] += loss
            weight[row] += 1
    score(
        pa.table({"text": texts}),
        tmp_path / "out.parquet",
        models=["ui-xs"],
        context=64,
        packed=True,
    )
    found = pq.read_table(tmp_path / "out.parquet")["perplexity"].to_numpy()
    np.testing.assert_allclose(np.log(found), total / weight, atol=1e-4)


def test_contexts_that_cannot_be() -> None:
    table = pa.table({"text": ["Save the draft"]})
    with pytest.raises(PomonaError, match="ui-xs: context is 513 tokens — use 2 to 512"):
        score(table, "x.parquet", models=["ui-xs"], context=513, dry_run=True)
    with pytest.raises(
        PomonaError,
        match=(
            r"ui-xs: memorize is \(32, 32\) — give two positive numbers, 60 tokens or less in "
            r"all"
        ),
    ):
        score(
            table, "x.parquet", models=["ui-xs"], scores=["memorization"], context=60, dry_run=True
        )


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.integers(0, 3)), min_size=1, max_size=60))
def test_z_scores_within_groups(rows: list[tuple[float, int]]) -> None:
    values, groups = np.array([value for value, _ in rows]), np.array([group for _, group in rows])
    ranks = within_group(values, groups)
    for group in set(groups):
        part, mine = values[groups == group], ranks[groups == group]
        assert mine.mean() == pytest.approx(0, abs=1e-6)
        if part.std() > 1e-6:
            np.testing.assert_allclose(mine, (part - part.mean()) / part.std(), atol=1e-6)
    assert np.isnan(within_group(np.array([np.nan, 1.0]), np.array([0, 0])))[0]


def test_ranks_among_rows_of_like_length_do_not_follow_length() -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 500, 4000)
    values = lengths + draw.normal(0, 1, 4000)
    values[7] = np.nan
    ranks = within_length(values, lengths, bins=40)
    known = np.isfinite(values)
    assert np.isnan(ranks[7])
    assert np.corrcoef(values[known], lengths[known])[0, 1] > 0.99
    assert abs(np.corrcoef(ranks[known], lengths[known])[0, 1]) < 0.05
    assert within_length(
        np.array([1.0, 1.0, 3.0]), np.array([1, 1, 1]), bins=1
    ).tolist() == pytest.approx([1 / 3, 1 / 3, 5 / 6])
