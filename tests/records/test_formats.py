"""Formats and compressions, as other tools write them."""

from __future__ import annotations

import bz2
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings, strategies as st

from pomona.data import dedup
from pomona.errors import PomonaError
from pomona.records import parsing, read, write

LINES = "".join(f'{{"n": {n}, "t": "{"é" * (n % 7)}{n * 7919}"}}\n' for n in range(3000)).encode()


def _long(data: bytes) -> bytes:
    level = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, enable_ldm=True)
    making = zstandard.ZstdCompressor(compression_params=level).compressobj()
    return making.compress(data) + making.flush()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
    "long.zst": _long,
}


@pytest.mark.parametrize("name", PACKED)
def test_compressed_lines(tmp_path: Path, name: str) -> None:
    packed = PACKED[name](LINES)
    path = tmp_path / f"a.jsonl.{name.removeprefix('long.')}"
    between = b"\0" * 4 if name == "xz" else b""
    path.write_bytes(packed + between + packed + between)
    whole = read(path).to_table().to_pylist()
    assert whole == [json.loads(line) for line in LINES.splitlines()] * 2
    path.write_bytes(packed[:-20])
    with pytest.raises(PomonaError, match=r"a\.jsonl\.\w+: cannot be read: Truncated compressed"):
        read(path).count()
    path.write_bytes(b"not compressed at all, but long enough to tell")
    with pytest.raises(PomonaError, match=r"cannot be read: .* — the file may be damaged"):
        read(path)


def test_frames_of_both_kinds_are_read_on(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.compress(LINES) + _long(LINES))
    assert read(tmp_path / "a.jsonl.zst").count() == 6_000


def test_what_takes_more_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jsonl.xz").write_bytes(lzma.compress(b"{}"))
    monkeypatch.setattr("pomona.records.store.XZ_MEMORY", 1 << 20)
    told = r"a\.jsonl\.xz: xz needs more than 1 MiB of memory to read it — compress it again"
    with pytest.raises(PomonaError, match=told):
        read(tmp_path / "a.jsonl.xz")
    (tmp_path / "a.jsonl.zst").write_bytes(_long(LINES))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(PomonaError, match=r"a\.jsonl\.zst: zstd --long .* 'pomona\[zstd\]'"):
        read(tmp_path / "a.jsonl.zst")


# As pandas, polars and DuckDB write them, with tabs; and as programs do that never quote.
QUOTED = b'id\ttext\tn\n1\tplain\t1.5\n2\t"a ""quoted"" word"\t\n3\t"tab\there"\t2.0\n4\t"new\nline"\t3.0\n'
PLAIN = b'id\ttext\tn\r\n1\t5" disk\t\r\n2\tsay "hi"\t2\r\n\r\n3\t\t3\r\n'


def test_tables_with_tabs(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(QUOTED)
    texts = ["plain", 'a "quoted" word', "tab\there", "new\nline"]
    assert read(tmp_path / "a.tsv").to_table().to_pydict() == {
        "id": ["1", "2", "3", "4"], "text": texts, "n": ["1.5", None, "2.0", "3.0"],
    }  # fmt: skip
    (tmp_path / "a.tab").write_bytes(PLAIN)
    found = read(tmp_path / "a.tab").to_table()
    assert found["text"].to_pylist() == ['5" disk', 'say "hi"', None]
    assert found["n"].to_pylist() == [None, "2", "3"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"a\tb\n1\n", "line 2: 1 fields where the header has 2"),
        (b'a\tb\n1\t"open\n2\tx\n', "line 2: a quoted field never ends"),
        (b'a\tb\n"x"y\t1\n', "line 2: a quote in the wrong place"),
        (b"a\ta\n", "line 1: a column name is empty or occurs twice"),
        (b"a\tb\n\xff\t1\n", r"line 2: invalid UTF-8 at byte 1 \(0xff\)"),
    ],
)
def test_malformed_rows_with_tabs(tmp_path: Path, content: bytes, error: str) -> None:
    (tmp_path / "a.tsv").write_bytes(content)
    with pytest.raises(PomonaError, match=error):
        read(tmp_path / "a.tsv").to_table()


def test_a_line_of_text_is_a_row(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b'\xef\xbb\xbfone\r\n\n "two", \n{"n": 3}')
    assert read(tmp_path).to_table().to_pydict() == {"text": ["one", ' "two", ', '{"n": 3}']}
    (tmp_path / "a.txt").write_bytes(b"one\n\xff\n")
    with pytest.raises(PomonaError, match=r"a\.txt, line 2: invalid UTF-8"):
        read(tmp_path / "a.txt").to_table()
    assert read(tmp_path / "a.txt", on_error="drop").count() == 1
    (tmp_path / "b.jsonl").write_text('{"n": 1}\n')  # a text beside tables is about them
    assert read(tmp_path).to_table().to_pydict() == {"n": [1]}


@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_of_objects(tmp_path: Path, indent: int | None) -> None:
    rows = [{"text": f'a ] " [ {n} \\', "m": [{"n": n}], "é": None} for n in range(50)]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=indent))
    records = read(tmp_path / "a.json")
    assert records.to_table().to_pylist() == rows
    card = dedup(records, tmp_path / "out.jsonl", method="exact")
    assert (card.rows_in, card.rows_out) == (50, 50)
    assert read(write(records, tmp_path / "b.json")).to_table() == records.to_table()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("[]", "a.json: the file holds no records"),
        ('[{"a": 1},]', "a.json, element 2: not valid JSON: expecting value, at column 1 — fix it"),
        ('[{"a": 1}, {"a": "x"}]', 'element 2: column "a" .* where int64 is expected — fix it'),
        ('[{"a": 1}, 5]', "a.json, element 2: not a JSON object but a number"),
        ('[{"a": "]}', "a.json: the array does not end — the file may be damaged"),
        ('[{"a": 1}] x', "a.json: the array ends before the file does"),
        ('[{"a": 1}][{"a": 1}]', "a.json: the array ends before the file does"),
        ('[{"a": 1}}', "a.json: the array ends before the file does"),
    ],
)
def test_damaged_arrays(tmp_path: Path, content: str, error: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(PomonaError, match=error):
        read(tmp_path / "a.json").to_table()


def test_elements_that_are_malformed_are_set_aside(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('[{"a": 1}, 5, {"a": 2}]')
    records = read(tmp_path / "a.json", on_error="reject", rejects=tmp_path / "r.jsonl")
    assert records.to_table().to_pydict() == {"a": [1, 2]} and records.rejected == 1
    assert json.loads((tmp_path / "r.jsonl").read_text())["line"] == 2


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('a"\\]}[{,\né', max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\],', max_size=2), inner)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(st.lists(_VALUES, max_size=4), st.integers(1, 20), st.sampled_from([None, 1]))
def test_elements_do_not_depend_on_blocks(values: list[Any], size: int, indent: int | None) -> None:
    data = json.dumps(values, ensure_ascii=False, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patched:
        cut = [data[at : at + size] for at in range(0, len(data), size)]
        patched.setattr(parsing, "blocks", lambda _: iter(cut))
        assert [json.loads(one) for one in parsing.array_elements("x")] == values


def test_an_element_may_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsing, "LONGEST", 100)
    monkeypatch.setattr(parsing, "blocks", lambda _: iter([b'["', *[b"x" * 60] * 3]))
    with pytest.raises(PomonaError, match="x: an element is longer than 0 MiB"):
        list(parsing.array_elements("x"))


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("out.txt", "cannot write txt — choose one of: parquet, jsonl, csv"),
        ("out.jsonl.xz", "cannot write xz — choose .gz or .zst"),
        ("out.xlsx", "not a table Pomona can name the format of"),
    ],
)
def test_results_are_refused_before_any_work(tmp_path: Path, name: str, error: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": null}\n')
    with pytest.raises(PomonaError, match=error):
        dedup(tmp_path / "a.jsonl", tmp_path / name)
