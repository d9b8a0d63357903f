from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pomona import records
from pomona.data.bands import Band, prune, select_band, sweep
from pomona.errors import GateFailed, PomonaError
from pomona.files import read_json
from pomona.records.card import card_of

scores_of = st.lists(st.floats(0.1, 1e6), min_size=5, max_size=60).map(np.array)


@given(scores_of, st.floats(0.05, 0.95), st.integers(0, 5))
def test_bands_are_ordered_and_as_large_as_asked(scores: np.ndarray, keep: float, seed: int) -> None:
    for band in ("bottom", "middle", "top", "random"):
        rows = select_band(scores, keep, band, seed=seed)
        assert abs(len(rows) - keep * len(scores)) <= 1
        assert list(rows) == sorted(set(rows))
    bottom, top = select_band(scores, keep, "bottom"), select_band(scores, keep, "top")
    if len(bottom) and len(top):
        assert scores[bottom].max() <= np.sort(scores)[max(0, len(bottom) - 1)]
        assert scores[top].min() >= np.sort(scores)[-len(top)]


def test_middle_is_the_percentiles_around_the_median() -> None:
    scores = np.arange(100.0)
    assert list(select_band(scores, 0.5, "middle")) == list(range(25, 75))


def test_bands_hold_the_same_number_of_tokens_not_of_rows() -> None:
    sizes = np.array([10, 10, 10, 10, 40, 40, 40, 40], np.int64)
    scores = np.arange(8.0)
    tokens = {band: sizes[select_band(scores, 0.4, band, sizes=sizes)].sum() for band in ("bottom", "top")}
    assert tokens == {"bottom": 80, "top": 80}


def test_the_random_control_depends_on_the_seed_alone() -> None:
    scores = np.random.default_rng(0).random(500)
    same = [select_band(scores, 0.3, "random", seed=7) for _ in range(2)]
    assert np.array_equal(*same)
    assert not np.array_equal(same[0], select_band(scores, 0.3, "random", seed=8))


def test_errors_name_the_row_and_the_remedy() -> None:
    with pytest.raises(PomonaError, match="row 1: the score nan is not finite — drop the row"):
        select_band(np.array([1.0, np.nan]), 0.5, "top")
    with pytest.raises(PomonaError, match=r"keep: 30 is not a share between 0 and 1 — use 0.3"):
        select_band(np.array([1.0]), 30, "top")


BANDS: tuple[Band, ...] = ("bottom", "middle", "top", "random")
tables = st.lists(st.tuples(st.integers(0, 20).map(float), st.sampled_from("abcd"), st.integers(0, 50)), min_size=1, max_size=60)


@given(tables, st.floats(0.05, 1), st.integers(0, 3), st.booleans(), st.integers(0, 5))
def test_floors_hold_and_bands_are_as_large_as_their_control(
    rows: list[tuple[float, str, int]], keep: float, floor: int, within: bool, seed: int
) -> None:
    scores, groups = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    chosen = {band: select_band(scores, keep, band, groups=groups, within=within, floor=floor, seed=seed) for band in BANDS}
    assert len({len(found) for found in chosen.values()}) == 1
    for band, found in chosen.items():
        assert (np.diff(found) > 0).all()
        assert np.array_equal(found, select_band(scores, keep, band, groups=groups, within=within, floor=floor, seed=seed))
        for group in set(groups.tolist()):
            assert (groups[found] == group).sum() >= min(floor, (groups == group).sum())


@given(tables, st.floats(0.05, 0.95))
def test_bottom_and_top_of_complementary_shares_are_all_rows(rows: list[tuple[float, str, int]], keep: float) -> None:
    scores = np.array([row[0] for row in rows])
    bottom, top = set(select_band(scores, keep, "bottom").tolist()), set(select_band(scores, 1 - keep, "top").tolist())
    assert len(bottom | top) >= len(rows) - 1
    assert len(bottom & top) <= 1


@given(tables, st.floats(0.05, 1), st.sampled_from(BANDS))
def test_a_band_by_size_misses_its_share_by_at_most_half_a_row(rows: list[tuple[float, str, int]], keep: float, band: Band) -> None:
    scores, sizes = np.array([row[0] for row in rows]), np.array([row[2] for row in rows])
    found = select_band(scores, keep, band, sizes=sizes)
    assert abs(sizes[found].sum() - keep * sizes.sum()) <= sizes.max() / 2 + 1e-6


@given(tables, st.floats(0.05, 1), st.sampled_from(BANDS[:3]))
def test_within_groups_is_the_band_of_each_group(rows: list[tuple[float, str, int]], keep: float, band: Band) -> None:
    scores, groups = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    found = select_band(scores, keep, band, groups=groups, within=True)
    for group in set(groups.tolist()):
        mine = np.flatnonzero(groups == group)
        assert np.array_equal(found[np.isin(found, mine)], mine[select_band(scores[mine], keep, band)])


def test_a_floor_gives_up_the_rows_the_band_would_take_last() -> None:
    scores, groups = np.arange(10.0), np.array(["a"] * 9 + ["b"])
    assert select_band(scores, 0.3, "bottom", groups=groups, floor=1).tolist() == [0, 1, 9]


def _table() -> pa.Table:
    n = 40
    return pa.table(
        {
            "id": [f"r{i}" for i in range(n)],
            "text": ["x" * (i % 7 + 1) for i in range(n)],
            "lang": ["fr"] * 36 + ["sw"] * 4,
            "ppl": [float((i * 17) % n) for i in range(n)],
            "tags": [[str(i)] for i in range(n)],
        }
    )


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_prune_keeps_order_columns_and_counts(tmp_path: Path, suffix: str) -> None:
    source = records.write(_table(), tmp_path / f"in.{suffix}")
    before = source.read_bytes()
    card = prune(source, tmp_path / f"out.{suffix}", by="ppl", keep=0.25, band="middle", within="lang", floor=2)
    kept = records.read(tmp_path / f"out.{suffix}").to_table()
    rows = [int(name[1:]) for name in kept["id"].to_pylist()]
    assert kept == _table().take(rows)
    assert rows == sorted(rows)
    assert (card.rows_in, card.rows_out, card.groups) == (40, 11, {"fr": (36, 9), "sw": (4, 2)})
    assert sum(card.removed.values()) == 29
    assert set(card.removed) == {"below the band", "above the band"}
    assert card.signature.startswith("prune|by:ppl|band:middle|keep:0.25|within:lang|floor:2|size:rows|version:")
    assert read_json(card_of(tmp_path / f"out.{suffix}"))["rows_out"] == 11
    assert source.read_bytes() == before


def test_prune_takes_tables_globs_and_filtered_records(tmp_path: Path) -> None:
    for i, part in enumerate((_table().slice(0, 15), _table().slice(15))):
        records.write(part, tmp_path / f"part-{i}.parquet")
    whole = prune(_table(), tmp_path / "a.parquet", by="ppl", keep=0.5)
    shards = prune(str(tmp_path / "part-*.parquet"), tmp_path / "b.parquet", by="ppl", keep=0.5)
    assert records.read(tmp_path / "a.parquet").to_table() == records.read(tmp_path / "b.parquet").to_table()
    assert [item.rows for item in shards.inputs] == [15, 25]
    assert whole.rows_out == shards.rows_out == 20
    some = prune(records.read(_table()).where(lang="sw"), tmp_path / "c.parquet", by="ppl", keep=0.5)
    assert (some.rows_in, some.rows_out) == (4, 2)


def test_prune_by_bytes_of_text(tmp_path: Path) -> None:
    card = prune(_table(), tmp_path / "out.parquet", by="ppl", keep=0.5, size="bytes")
    total = sum(map(len, _table()["text"].to_pylist()))
    kept = sum(map(len, records.read(tmp_path / "out.parquet").to_table()["text"].to_pylist()))
    assert abs(kept - total / 2) <= 3.5
    assert card.details["size"] == {"unit": "bytes", "in": total, "out": kept}


def test_a_dry_run_writes_nothing_and_tells_the_same(tmp_path: Path) -> None:
    dry = prune(_table(), tmp_path / "out.parquet", by="ppl", dry_run=True)
    assert not list(tmp_path.iterdir())
    assert dry == prune(_table(), tmp_path / "out.parquet", by="ppl")


def test_sweep_writes_each_band_beside_a_control_of_its_size(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    cards = sweep(_table(), tmp_path, by="ppl", keeps=(0.25, 0.5), progress=lambda done, total: seen.append((done, total)))
    names = {f"{band}-{keep}.parquet" for band in BANDS for keep in ("0.25", "0.5")}
    assert {path.name for path in tmp_path.glob("*.parquet")} == names
    for name in names:
        assert records.read(tmp_path / name).count() == (10 if "0.25" in name else 20)
    assert [card.parameters["band"] for card in cards[:4]] == ["random", "bottom", "middle", "top"]
    assert seen[-1] == (320, 320)


def _refused(match: str, table: Any, tmp_path: Path, **options: Any) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(PomonaError, match=match):
        prune(table, tmp_path / "out.parquet", **{"by": "ppl"} | options)
    assert sorted(tmp_path.iterdir()) == before


def test_bad_scores_are_named_by_file_and_row(tmp_path: Path) -> None:
    records.write(pa.table({"ppl": [1.0, 2.0]}), tmp_path / "0.parquet")
    records.write(pa.table({"ppl": [1.0, None, float("nan")]}), tmp_path / "1.parquet")
    _refused(r'1.parquet, row 2: column "ppl" is null — fill it, or drop the row first', str(tmp_path / "?.parquet"), tmp_path)
    nan = pa.table({"ppl": [1.0, float("nan")]})
    _refused(r'the table, row 2: column "ppl" is nan, not a finite number — score the row again, or drop it first', nan, tmp_path)


def test_other_mistakes_are_named_too(tmp_path: Path) -> None:
    _refused(r'the table: there is no column "pl" — did you mean "ppl"\?', _table(), tmp_path, by="pl")
    _refused(r'the table: column "lang" holds string, not numbers — name a numeric column', _table(), tmp_path, by="lang")
    _refused(r"floor: a floor needs to know the groups — name their column with within or group", _table(), tmp_path, floor=1)
    _refused(r'band: there is no band "upper" — use one of: bottom, middle, top, random', _table(), tmp_path, band="upper")
    _refused(r"a share of 0.001 of 40 rows is none — keep more, or set a floor", _table(), tmp_path, keep=0.001)
    _refused(r"the table: there are no rows", _table().slice(0, 0), tmp_path)
    _refused(r'the table: size "bytes" needs the column "text"', _table().drop_columns(["text"]), tmp_path, size="bytes")
    negative = pa.table({"ppl": [1.0], "tokens": [-3]})
    _refused(r'the table, row 1: column "tokens" is -3, a negative size', negative, tmp_path, size="tokens")


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    source = records.write(_table(), tmp_path / "out.parquet")
    _refused(r"out.parquet: is read and would be replaced — write to another path", source, tmp_path)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_batch", full)
    with pytest.raises(GateFailed, match="the disk is full"):
        prune(_table(), tmp_path / "out.parquet", by="ppl")
    assert not list(tmp_path.iterdir())
