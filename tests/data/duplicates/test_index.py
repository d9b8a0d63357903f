"""A saved index: batches one after the other as in one run over all of them, and never half
grown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from pomona import files
from pomona.data.duplicates import dedup, signed
from pomona.errors import PomonaError

EASY = {"n_bands": 12, "rows_per_band": 1, "threshold": 0.6, "shingle_size": 2}
BATCH = st.lists(st.lists(st.sampled_from("abc"), max_size=8).map(" ".join), max_size=8)


def rows(texts: list[str], start: int) -> pa.Table:
    return pa.table(
        {
            "row": pa.array(range(start, start + len(texts)), pa.int64()),
            "text": pa.array(texts, pa.string()),
        }
    )


@settings(max_examples=15)
@given(
    batches=st.lists(BATCH, min_size=1, max_size=3), method=st.sampled_from(["minhash", "exact"])
)
def test_batches_keep_what_one_run_keeps_of_them(
    batches: list[list[str]], method: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "sync", lambda _: None)
        seen: list[str] = []
        for batch in batches:
            dedup(
                rows(batch, len(seen)),
                folder / "new.parquet",
                method=method,
                index=folder / "index",
                **EASY,
            )
            start, seen = len(seen), seen + batch
            dedup(rows(seen, 0), folder / "all.parquet", method=method, **EASY)
            whole = [
                row
                for row in pq.read_table(folder / "all.parquet")["row"].to_pylist()
                if row >= start
            ]
            assert pq.read_table(folder / "new.parquet")["row"].to_pylist() == whole


def test_the_evidence_names_the_index(tmp_path: Path) -> None:
    words = " ".join(map(str, range(50)))
    first = dedup(
        pa.table({"text": ["other", words]}), tmp_path / "1.parquet", index=tmp_path / "index"
    )
    card = dedup(
        pa.table({"text": [words + " end", "new"]}),
        tmp_path / "2.parquet",
        index=tmp_path / "index",
    )
    assert first.details["index"]["rows_after"] == card.details["index"]["rows_before"] == 2
    row = pq.read_table(tmp_path / "2.parquet.pairs.parquet").to_pylist()[0]
    assert (row["removed"], row["kept"], row["kept_in"], row["row_b_in"]) == (
        0,
        1,
        "index",
        "index",
    )


def test_a_run_killed_on_the_way_leaves_the_index_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, index = tmp_path / "b.parquet", tmp_path / "index"
    pq.write_table(pa.table({"text": ["a", "a", "b"]}), batch)
    write_json = signed.write_json

    def killed(path: Path, value: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(signed, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        dedup(batch, tmp_path / "out.parquet", index=index)
    monkeypatch.setattr(signed, "write_json", write_json)
    assert dedup(batch, tmp_path / "out.parquet", index=index).rows_out == 2
    before = (tmp_path / "out.parquet").read_bytes()
    with pytest.raises(
        PomonaError,
        match=r"index: these inputs are in the index already, as batch-00000 — give new documents",
    ):
        dedup(batch, tmp_path / "out.parquet", index=index)
    assert (tmp_path / "out.parquet").read_bytes() == before


def test_what_a_kill_left_in_an_index_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def grown(place: Path) -> None:
        for number in range(2):
            texts = pa.table({"text": [f"a{number}", "b"]})
            dedup(texts, tmp_path / f"{number}.parquet", index=place)

    def held(place: Path) -> list[str]:
        return sorted(str(path.relative_to(place)) for path in place.rglob("*"))

    grown(tmp_path / "calm")
    index = tmp_path / "index"
    dead = 2**22 + 1
    half = files.beside(index / "batch-00000", pid=dead)
    half.mkdir(parents=True)
    (half / files.LISTING).write_text('{"kind": "", "made": []}')
    files.beside(index / "components-00000.npy", pid=dead).write_text("half")
    grow = signed.SignedIndex.grow

    def with_halves(known: signed.SignedIndex, name: str, chunks: Path, components: Any) -> None:
        (chunks / ".00000-000000.0.partial").mkdir()
        grow(known, name, chunks, components)
        (index / "components-00000.npy").touch()

    monkeypatch.setattr(signed.SignedIndex, "grow", with_halves)
    grown(index)
    monkeypatch.setattr(signed.SignedIndex, "grow", grow)
    dedup(pa.table({"text": ["c"]}), tmp_path / "2.parquet", index=tmp_path / "calm")
    dedup(pa.table({"text": ["c"]}), tmp_path / "2.parquet", index=index)
    assert held(index) == held(tmp_path / "calm")


def test_a_run_killed_after_the_index_grew_is_only_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, index = tmp_path / "b.parquet", tmp_path / "index"
    pq.write_table(pa.table({"text": ["a", "a", "b"]}), batch)
    grow = signed.SignedIndex.grow

    def killed(*arguments: object) -> None:
        grow(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(signed.SignedIndex, "grow", killed)
    with pytest.raises(KeyboardInterrupt):
        dedup(batch, tmp_path / "out.parquet", index=index)
    monkeypatch.setattr(signed.SignedIndex, "grow", grow)
    card = dedup(batch, tmp_path / "out.parquet", index=index)
    assert (card.rows_out, card.removed) == (2, {"exact": 1, "near": 0})
    assert not (tmp_path / ".out.parquet.work").exists()


def test_other_parameters_and_foreign_folders_are_refused(tmp_path: Path) -> None:
    table = pa.table({"text": ["a"]})
    dedup(table, tmp_path / "out.parquet", index=tmp_path / "index")
    with pytest.raises(
        PomonaError,
        match="index: the index was made with shingle_size=5, not 3 — use the same parameters",
    ):
        dedup(table, tmp_path / "out.parquet", index=tmp_path / "index", shingle_size=3)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("x")
    with pytest.raises(
        PomonaError, match="mine: holds files and is not an index — name a new folder"
    ):
        dedup(table, tmp_path / "out.parquet", index=tmp_path / "mine")


DAMAGES = {
    "half a manifest": ("index.json", b'{"form": 1, "parameters'),
    "a list": ("index.json", b"[]"),
    "no form": ("index.json", b"{}"),
    "no batches": ("index.json", b'{"form": 1, "parameters": {}, "batches": {}}'),
    "batches of numbers": ("index.json", b'{"form": 1, "parameters": {}, "batches": [7]}'),
    "rows as text": (
        "index.json",
        b'{"form": 1, "parameters": {}, "batches": [{"name": "a", "rows": "1"}]}',
    ),
    "fewer rows": (
        "index.json",
        b'{"form": 1, "parameters": {}, "batches": [{"name": "a", "rows": 1}]}',
    ),
    "more batches": (
        "index.json",
        b'{"form": 1, "parameters": {}, "batches": [{"name": "a", "rows": 2}, '
        b'{"name": "b", "rows": 1}]}',
    ),
    "no components": ("components-00000.npy", b""),
    "cut components": ("components-00000.npy", b"\x93NUMPY"),
    "a part's note": ("batch-00000/00000.json", b'{"rows": 2, "chunks": "1"}'),
    "chunks that are not there": ("batch-00000/00000.json", b'{"rows": 2, "chunks": 999999999999}'),
    "sums": ("batch-00000/00000-000000/sums.json", b"{}}"),
    "prints": ("batch-00000/00000-000000/prints.npy", b"\x93NUMPY\1\0"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_named(damage: str, tmp_path: Path) -> None:
    out, index = tmp_path / "o.parquet", tmp_path / "index"
    dedup(rows(["a b c", "d e f"], 0), out, index=index, **EASY)
    name, data = DAMAGES[damage]
    (index / name).write_bytes(data)
    before = out.read_bytes()
    with pytest.raises(PomonaError) as caught:
        dedup(rows(["g h i"], 0), tmp_path / "p.parquet", index=index, **EASY)
    assert str(index) in str(caught.value) and caught.value.remedy
    assert (index / name).read_bytes() == data and out.read_bytes() == before


def test_an_index_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "index").write_text("mine")
    with pytest.raises(PomonaError, match="index: is no folder"):
        dedup(rows(["a b"], 0), tmp_path / "o.parquet", index=tmp_path / "index", **EASY)


IDS = {
    "struct": pa.array([{"a": 1, "b": ["x"]}, {"a": 2, "b": None}, None]),
    "list": pa.array([[1], [2], None]),
    "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
    "bytes": pa.array([b"\xff", b"b", None]),
    "time": pa.array([1, 2, None], pa.timestamp("ns")),
    "unsigned": pa.array([2**64 - 1, 2**63, None], pa.uint64()),
    "text": pa.array(["a", "b", None]),
    "null": pa.nulls(3),
}


@pytest.mark.parametrize("own", IDS)
@pytest.mark.parametrize("other", ["struct", "unsigned", "null"])
def test_ids_of_any_type_are_told(own: str, other: str, tmp_path: Path) -> None:
    texts = ["a b c", "a b c", "d e f"]
    tables = [pa.table({"id": IDS[kind], "text": texts}) for kind in (own, other)]
    card = dedup(tables[0], tmp_path / "o.parquet", against=tables[1], **EASY)
    assert card.rows_out == 0
    told = pq.read_table(tmp_path / "o.parquet.pairs.parquet")
    kept = {"struct": '{"a": 1, "b": ["x"]}', "unsigned": "18446744073709551615", "null": None}
    assert told["kept_id"].to_pylist()[0] == kept[other]
