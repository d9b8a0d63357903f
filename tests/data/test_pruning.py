from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest

from pomona import records
from pomona.data.bands import Band
from pomona.data.pruning import prune, sweep
from pomona.documents import read_json
from pomona.errors import PomonaError, ResourceError
from pomona.records import card_of


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
    card = prune(
        source,
        tmp_path / f"out.{suffix}",
        by="ppl",
        keep=0.25,
        band="middle",
        within="lang",
        floor=2,
    )
    kept = records.read(tmp_path / f"out.{suffix}").to_table()
    rows = [int(name[1:]) for name in kept["id"].to_pylist()]
    assert kept == _table().take(rows)
    assert rows == sorted(rows)
    assert (card.rows_in, card.rows_out, card.groups) == (40, 11, {"fr": (36, 9), "sw": (4, 2)})
    assert sum(card.removed.values()) == 29
    assert set(card.removed) == {"below the band", "above the band"}
    assert card.signature.startswith(
        "prune|by:ppl|band:middle|keep:0.25|within:lang|floor:2|size:rows|version:"
    )
    assert read_json(card_of(tmp_path / f"out.{suffix}"))["rows_out"] == 11
    assert source.read_bytes() == before


def test_prune_takes_tables_globs_and_filtered_records(tmp_path: Path) -> None:
    for i, part in enumerate((_table().slice(0, 15), _table().slice(15))):
        records.write(part, tmp_path / f"part-{i}.parquet")
    whole = prune(_table(), tmp_path / "a.parquet", by="ppl", keep=0.5)
    shards = prune(str(tmp_path / "part-*.parquet"), tmp_path / "b.parquet", by="ppl", keep=0.5)
    assert (
        records.read(tmp_path / "a.parquet").to_table()
        == records.read(tmp_path / "b.parquet").to_table()
    )
    assert [item.rows for item in shards.inputs] == [15, 25]
    assert whole.rows_out == shards.rows_out == 20
    some = prune(
        records.read(_table()).where(lang="sw"), tmp_path / "c.parquet", by="ppl", keep=0.5
    )
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
    written = prune(_table(), tmp_path / "out.parquet", by="ppl")
    assert [one.path for one in written.outputs] == ["out.parquet"]
    assert dry == replace(written, outputs=())


def test_sweep_writes_each_band_beside_a_control_of_its_size(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    cards = sweep(
        _table(),
        tmp_path,
        by="ppl",
        keeps=(0.25, 0.5),
        progress=lambda done, total: seen.append((done, total)),
    )
    names = {f"{band}-{keep}.parquet" for band in get_args(Band) for keep in ("0.25", "0.5")}
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
    _refused(
        r'1.parquet, row 2: column "ppl" is null — fill it, or leave such rows out',
        str(tmp_path / "?.parquet"),
        tmp_path,
    )
    nan = pa.table({"ppl": [1.0, float("nan")]})
    _refused(
        (
            r'the table, row 2: column "ppl" is nan, not a finite number — score the row again, '
            r"or leave such rows out"
        ),
        nan,
        tmp_path,
    )


def test_other_mistakes_are_named_too(tmp_path: Path) -> None:
    _refused(
        r'the table: there is no column "pl" — did you mean "ppl"\?', _table(), tmp_path, by="pl"
    )
    _refused(
        r'the table: column "lang" holds string, not numbers — name a numeric column',
        _table(),
        tmp_path,
        by="lang",
    )
    _refused(
        r"floor: a floor needs to know the groups — name their column with within or group",
        _table(),
        tmp_path,
        floor=1,
    )
    _refused(
        r'band: there is no band "upper" — use one of: bottom, middle, top, random',
        _table(),
        tmp_path,
        band="upper",
    )
    _refused(
        r"a share of 0.001 of 40 rows is none — keep more, or set a floor",
        _table(),
        tmp_path,
        keep=0.001,
    )
    _refused(r"the table: there are no rows", _table().slice(0, 0), tmp_path)
    _refused(
        r'the table: size "bytes" needs the column "text"',
        _table().drop_columns(["text"]),
        tmp_path,
        size="bytes",
    )
    negative = pa.table({"ppl": [1.0], "tokens": [-3]})
    _refused(
        r'the table, row 1: column "tokens" is -3, a negative size',
        negative,
        tmp_path,
        size="tokens",
    )


def test_an_input_is_never_replaced(tmp_path: Path) -> None:
    source = records.write(_table(), tmp_path / "out.parquet")
    _refused(r"out.parquet: is an input, and out would replace it", source, tmp_path)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_batch", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        prune(_table(), tmp_path / "out.parquet", by="ppl")
    assert not list(tmp_path.iterdir())
