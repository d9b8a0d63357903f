"""The exact method: one of each text, compared byte by byte."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, strategies as st

from pomona import files
from pomona.data.duplicates import dedup, minhash
from pomona.errors import PomonaError
from pomona.records import read


@given(texts=st.lists(st.text(max_size=3), max_size=20), rows=st.sampled_from([1, 7, 100]))
def test_one_of_each_text_stays_in_order(
    texts: list[str], rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path_factory.mktemp("exact") / "out.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minhash, "CHUNK_ROWS", rows)
        patch.setattr(files, "sync", lambda _: None)
        card = dedup(pa.table({"text": pa.array(texts, pa.string())}), out, method="exact")
    assert pq.read_table(out)["text"].to_pylist() == list(dict.fromkeys(texts))
    assert card.rows_out + card.removed["exact"] == len(texts)


def test_nothing_is_normalised(tmp_path: Path) -> None:
    card = dedup(
        pa.table({"text": ["Save", "save", "save ", "Save"]}),
        tmp_path / "out.jsonl",
        method="exact",
    )
    assert read(tmp_path / "out.jsonl").to_table()["text"].to_pylist() == ["Save", "save", "save "]
    assert card.signature.startswith("dedup|method:exact|column:text|keep:first|seed:0|version:")


def test_files_evidence_and_card(tmp_path: Path) -> None:
    for name, ids in (("a", ["x", "y"]), ("b", ["z", "w"])):
        pq.write_table(
            pa.table({"id": ids, "text": ["same", f"own {name}"]}), tmp_path / f"{name}.parquet"
        )
    out = tmp_path / "out" / "clean.parquet"
    card = dedup(
        str(tmp_path / "*.parquet"), out, method="exact", pairs=tmp_path / "evidence.jsonl"
    )
    assert [(Path(file.path).name, file.rows, len(file.sha256 or "")) for file in card.inputs] == [
        ("a.parquet", 2, 64),
        ("b.parquet", 2, 64),
    ]
    row = read(tmp_path / "evidence.jsonl").to_table().to_pylist()
    expected = {"removed": 2, "removed_id": "z", "kept": 0, "kept_id": "x", "kept_in": "inputs"}
    assert row == [
        {
            **expected,
            "row_a": 2,
            "row_b": 0,
            "row_b_in": "inputs",
            "jaccard": 1.0,
            "reason": "exact",
        }
    ]
    assert sorted(path.name for path in out.parent.iterdir()) == [
        "clean.parquet",
        "clean.parquet.card.json",
    ]


def test_filtered_records_and_the_best_of_them(tmp_path: Path) -> None:
    table = pa.table(
        {"text": ["a", "a", "a", "b"], "lang": ["en", "de", "de", "de"], "score": [9, 1, 2, 3]}
    )
    card = dedup(
        read(table).where(lang="de"), tmp_path / "out.parquet", method="exact", keep="best:score"
    )
    assert pq.read_table(tmp_path / "out.parquet")["score"].to_pylist() == [2, 3]
    assert card.rows_in == 3


def test_against_and_index_do_not_mix(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"]})
    card = dedup(table, tmp_path / "out.parquet", method="exact", against=pa.table({"text": ["b"]}))
    assert card.removed == {"exact": 0, "near": 0, "against": 1}
    with pytest.raises(
        PomonaError,
        match="against: an index remembers which document was first: it does not go with against",
    ):
        dedup(table, tmp_path / "out.parquet", against=table, index=tmp_path / "index")


def test_options_reach_the_other_methods_even_when_they_are_the_defaults_here(
    tmp_path: Path,
) -> None:
    table = pa.table({"text": ["a b c d e f", "a b c d e f"]})
    card = dedup(table, tmp_path / "out.parquet", method="substring", keep="first", min_length=3)
    assert card.parameters["keep"] == "first"
    with pytest.raises(
        PomonaError, match='dedup: substring has no option "n_bands" — known: column, '
    ):
        dedup(table, tmp_path / "out.parquet", method="substring", n_bands=3)
