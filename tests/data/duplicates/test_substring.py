from __future__ import annotations

import json
import re
import subprocess
import sys
import unicodedata
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from pomona.data.duplicates.substring import Tokens, dedup_substring
from pomona.data.duplicates.substring_memory import MemoryBudget, largest_pages
from pomona.data.duplicates.substring_passes import Search, Stream
from pomona.data.duplicates.substring_scan import BYTE, TOKEN, WORD
from pomona.data.inputs import unheard
from pomona.errors import PomonaError
from pomona.records import read

_SPACELESS = re.compile("[฀-࿿က-႟ក-៿぀-ヿㇰ-ㇿ㐀-䶿一-鿿]")
KINDS = {"byte": BYTE, "word": WORD, "token": TOKEN}
Span = tuple[int, int, int]
memories = st.sampled_from([1, 1 << 9, 1 << 20])


def units_of(text: str, unit: str, tokens: Tokens | None = None) -> list[tuple[Any, int, int]]:
    """(value, first byte, end) of each unit, in plain Python."""
    raw = text.encode()
    if unit == "byte":
        return [(byte, at, at + 1) for at, byte in enumerate(raw)]
    begins = [len(text[:at].encode()) for at in range(len(text) + 1)]
    if tokens is not None:
        encoded = tokens._tokenizer.encode(text, add_special_tokens=False)
        return [
            (token, begins[start], begins[stop])
            for token, (start, stop) in zip(encoded.ids, encoded.offsets, strict=True)
        ]
    found: list[tuple[Any, int, int]] = []
    joined = False
    for at, char in enumerate(text):
        part = (
            (unicodedata.category(char)[0] in "LMN" or char == "_")
            and not _SPACELESS.match(char)
            and ord(char) < 65536
        )
        if part and joined:
            found[-1] = (found[-1][0] + char, found[-1][1], begins[at + 1])
        elif not char.isspace():
            found.append((char, begins[at], begins[at + 1]))
        joined = part
    return found


def reference(
    texts: list[str], unit: str, length: int, keep: str, tokens: Tokens | None = None
) -> list[Span]:
    """Struck spans by comparing all grams with one another."""
    documents = [units_of(text, unit, tokens) for text in texts]
    grams: dict[tuple[Any, ...], list[tuple[int, int]]] = {}
    for document, units in enumerate(documents):
        for at in range(len(units) - length + 1):
            grams.setdefault(tuple(value for value, _, _ in units[at : at + length]), []).append(
                (document, at)
            )
    struck = [[False] * len(units) for units in documents]
    for places in grams.values():
        (first, begin), more = places[0], len(places) > 1
        for document, at in places:
            if (keep == "none" and more) or (
                keep == "first" and (document > first or at >= begin + length)
            ):
                struck[document][at : at + length] = [True] * length
    spans: list[Span] = []
    for document, (text, units) in enumerate(zip(texts, documents, strict=True)):
        starts = {len(text[:at].encode()) for at in range(len(text) + 1)}
        at = 0
        while at < len(units):
            end = at
            while end < len(units) and struck[document][end]:
                end += 1
            if end > at:
                outside = [*units[:at], *units[end:]]
                inside = [
                    (start, stop)
                    for _, start, stop in units[at:end]
                    if not any(
                        start < other_stop and other_start < stop
                        for _, other_start, other_stop in outside
                    )
                ]
                low, high = (inside[0][0], inside[-1][1]) if inside else (0, 0)
                while low < high and low not in starts:
                    low += 1
                while high > low and high not in starts:
                    high -= 1
                spans += [(document, low, high)] if low < high else []
            at = end + 1
    return spans


def found(
    texts: list[str],
    unit: str,
    length: int,
    keep: str,
    memory: int,
    folder: Path,
    tokens: Tokens | None = None,
) -> list[Span]:
    column = [pa.array(texts[:2], pa.string()), pa.array(texts[2:], pa.string())]
    search = Search(length, KINDS[unit], keep == "first")
    with (
        TemporaryDirectory(dir=folder) as work,
        closing(Stream.of(column, search, Path(work), tokens and tokens.encode)) as stream,
    ):
        stream.mark(stream.count()[1], memory, unheard)
        spans = stream.spans(0, len(texts))
    return [(int(row), int(start), int(stop)) for row, start, stop in spans]


def texts_over(alphabet: str) -> st.SearchStrategy[list[str]]:
    plain = st.text(alphabet, max_size=40)
    piece = st.sampled_from([alphabet * 3, alphabet[::-1] * 2, alphabet[0] * 12])
    return st.lists(st.one_of(plain, st.tuples(plain, piece, plain).map("".join)), max_size=7)


@settings(max_examples=150)
@given(texts_over("ab"), st.integers(1, 9), st.sampled_from(["none", "first"]), memories)
def test_bytes_equal_brute_force(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], length: int, keep: str, memory: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert found(texts, "byte", length, keep, memory, folder) == reference(
        texts, "byte", length, keep
    )


@settings(max_examples=150)
@given(texts_over("aé界🙂"), st.integers(1, 9), st.sampled_from(["none", "first"]), memories)
def test_bytes_of_longer_characters_equal_brute_force(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], length: int, keep: str, memory: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    spans = found(texts, "byte", length, keep, memory, folder)
    assert spans == reference(texts, "byte", length, keep)
    for row, start, stop in spans:
        texts[row].encode()[start:stop].decode()


@settings(max_examples=150)
@given(
    texts_over("ab .\n界ที่é🙂\u3000_"),
    st.integers(1, 6),
    st.sampled_from(["none", "first"]),
    memories,
)
def test_words_equal_brute_force(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], length: int, keep: str, memory: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert found(texts, "word", length, keep, memory, folder) == reference(
        texts, "word", length, keep
    )


@settings(max_examples=60)
@given(
    texts_over("open file é界🙂"), st.integers(1, 6), st.sampled_from(["none", "first"]), memories
)
def test_tokens_equal_brute_force(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], length: int, keep: str, memory: int
) -> None:
    tokens, folder = Tokens(None), tmp_path_factory.getbasetemp()
    assert found(texts, "token", length, keep, memory, folder, tokens) == reference(
        texts, "token", length, keep, tokens
    )


def words(seed: int, count: int) -> str:
    return " ".join(
        f"w{number}" for number in np.random.default_rng(seed).integers(0, 10**6, count)
    )


def test_any_memory_gives_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = words(0, 80)
    texts = [
        f"{words(row, 300)}\n{shared if row % 3 else ''}. {words(-row % 7, 90)}"
        for row in range(1, 60)
    ]
    table = pa.table({"text": texts, "id": range(len(texts))})
    cards = []
    for name, bytes_of_table in (("small", 1 << 14), ("large", 1 << 30)):
        out = tmp_path / f"{name}.parquet"
        monkeypatch.setattr(MemoryBudget, "table", lambda _, most=bytes_of_table: most)
        cards.append(dedup_substring(table, out, keep="first"))
        assert json.loads(Path(f"{out}.card.json").read_text())["signature"] == cards[-1].signature
    assert cards[0].details["passes"] > 3 > cards[1].details["passes"]
    assert pq.read_table(tmp_path / "small.parquet").equals(
        pq.read_table(tmp_path / "large.parquet")
    )
    evidence = [
        pq.read_table(tmp_path / f"{name}.parquet.spans.parquet") for name in ("small", "large")
    ]
    assert evidence[0].equals(evidence[1])
    assert evidence[0].num_rows == cards[0].details["struck_spans"] > 40


@pytest.mark.parametrize("unit", ["word", "byte", "token"])
def test_spans_are_what_is_missing_and_all_columns_stay(tmp_path: Path, unit: Any) -> None:
    shared = "Öffnen Sie die Datei „Einstellungen“, dann wählen Sie das 界面 und die Sprache aus."
    texts = ["", f"Erstens. {shared} Ende.", "nichts", f"{shared}", f"Zweitens: {shared}!"]
    (tmp_path / "in.jsonl").write_text(
        "".join(json.dumps({"id": row, "text": text}) + "\n" for row, text in enumerate(texts))
    )
    card = dedup_substring(tmp_path / "in.jsonl", tmp_path / "out.jsonl", unit=unit, min_length=12)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    left = [text.encode() for text in texts]
    for span in reversed(pq.read_table(tmp_path / "out.jsonl.spans.parquet").to_pylist()):
        assert span["reason"] == "occurs more than once"
        left[span["row"]] = left[span["row"]][: span["start"]] + left[span["row"]][span["end"] :]
    assert [row["text"] for row in rows] == [text.decode() for text in left]
    assert [row["id"] for row in rows] == list(range(5))
    assert (
        rows[0]["text"] == ""
        and rows[2]["text"] == "nichts"
        and "Datei" not in "".join(row["text"] for row in rows)
    )
    struck = sum(len(text.encode()) for text in texts) - sum(map(len, left))
    assert (
        card.details["struck_bytes"],
        card.details["rows_struck"],
        card.details["rows_emptied"],
    ) == (struck, 3, unit != "token")
    assert card.inputs[0].rows == card.rows_in == card.rows_out == 5 and card.removed == {}


def test_first_copy_stays_also_of_a_run(tmp_path: Path) -> None:
    table = pa.table({"text": ["x" * 30 + "abcdefghij", "abcdefghij-", "x" * 25]})
    dedup_substring(table, tmp_path / "out.parquet", unit="byte", min_length=10, keep="first")
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == [
        "x" * 10 + "abcdefghij",
        "-",
        "",
    ]
    dedup_substring(table, tmp_path / "all.parquet", unit="byte", min_length=10)
    assert pq.read_table(tmp_path / "all.parquet")["text"].to_pylist() == ["", "-", ""]


def test_equal_hashes_of_different_text_are_told_apart(tmp_path: Path) -> None:
    signs = [
        bin(at).count("1") % 2 for at in range(2048)
    ]  # Thue-Morse: collides in every polynomial hash modulo 2**64
    one, two = ("".join("ab"[sign ^ flip] for sign in signs) for flip in (0, 1))
    for texts, left in (
        ([one, two], [one, two]),
        ([one, two, one], ["", two, ""]),
        ([two, one, one + "!", two], ["", "", "!", ""]),
    ):
        dedup_substring(
            pa.table({"text": texts}), tmp_path / "out.parquet", unit="byte", min_length=2048
        )
        assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == left


def test_words_do_not_mind_white_space_and_no_match_crosses_rows(tmp_path: Path) -> None:
    table = pa.table({"text": ["a b c", "d e f", "a b", "c d e f", "A  d\te\n f z"]})
    dedup_substring(table, tmp_path / "out.parquet", min_length=3)
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == [
        "a b c",
        "",
        "a b",
        "c ",
        "A   z",
    ]


def test_emptied_rows_are_dropped_only_when_asked(tmp_path: Path) -> None:
    table = pa.table({"text": ["same words here", " same words here ", "", "other"]})
    card = dedup_substring(
        table, tmp_path / "out.parquet", min_length=3, empty="drop", keep="first"
    )
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == [
        "same words here",
        "",
        "other",
    ]
    assert (card.rows_in, card.rows_out, card.removed) == (4, 3, {"nothing left": 1})


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    table = pa.table({"text": ["one two three"] * 3})
    seen: list[tuple[int, int]] = []
    dry = dedup_substring(
        table,
        tmp_path / "out.parquet",
        min_length=3,
        dry_run=True,
        progress=lambda *now: seen.append(now),
    )
    assert list(tmp_path.iterdir()) == []
    written = dedup_substring(table, tmp_path / "out.parquet", min_length=3)
    assert dry == replace(written, outputs=())
    assert seen[-1][0] == seen[-1][1] > 0


def test_several_files_and_one_very_long_line(tmp_path: Path) -> None:
    shared = words(5, 60)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": f"{words(1, 300_000)} {shared}"}) + "\n")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": f"{shared} tail"}) + "\n")
    card = dedup_substring(tmp_path / "*.jsonl", tmp_path / "out" / "out.jsonl", memory="384MiB")
    assert [one.rows for one in card.inputs] == [1, 1]
    assert json.loads((tmp_path / "out" / "out.jsonl").read_text().splitlines()[1]) == {
        "text": " tail"
    }


def test_errors_name_what_was_wrong_and_leave_nothing(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", None], "n": [1, 2]}), tmp_path / "null.parquet")
    broken = pa.StringArray.from_buffers(
        2, pa.py_buffer(np.array([0, 1, 3], np.int32)), pa.py_buffer(b"ab\xff")
    )
    pq.write_table(pa.table({"text": broken}), tmp_path / "latin.parquet")
    before = sorted(tmp_path.iterdir())
    out, good = tmp_path / "out.parquet", pa.table({"text": ["a"]})
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (tmp_path / "null.parquet", {}, r'null\.parquet, row 2: column "text" is null — fill it'),
        (
            tmp_path / "latin.parquet",
            {},
            r'latin\.parquet, row 2: column "text" is not valid UTF-8 — decode',
        ),
        (
            tmp_path / "null.parquet",
            {"column": "n"},
            r'column "n" holds int64, not text — name a column of strings',
        ),
        (good, {"column": "txt"}, r'there is no column "txt" — did you mean "text"\?'),
        (good, {"min_length": 0}, "min_length: 0 units are no repeat"),
        (good, {"unit": "words"}, r'unit: "words" is unknown — did you mean "word"\?'),
        (good, {"tokenizer": "ui-s"}, "tokenizer: unit word uses no tokenizer"),
        (good, {"unit": "token", "tokenizer": tmp_path}, "config.json|tokenizer.json"),
        (good, {"memory": "1 elephant"}, r'memory: "1 elephant" is not a size'),
        (good, {"memory": 5}, "memory: 5 is less than 64 KiB"),
        (
            good,
            {"memory": "300MiB"},
            r'memory: 300\.0 MiB are not enough: Python, its libraries .* — give "384MiB" or more',
        ),
    ]
    for inputs, options, message in cases:
        with pytest.raises(PomonaError, match=message):
            dedup_substring(inputs, out, **options)
    with pytest.raises(PomonaError, match="not a table Pomona can name the format of"):
        dedup_substring(good, tmp_path / "out.docx")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("unit", ["word", "token"])
def test_no_rows_and_only_empty_rows(tmp_path: Path, unit: Any) -> None:
    for texts in ([], ["", ""]):
        card = dedup_substring(
            pa.table({"text": pa.array(texts, pa.string())}), tmp_path / "out.parquet", unit=unit
        )
        assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == texts
        assert (card.rows_out, card.details["passes"]) == (len(texts), 0)


def test_a_text_too_long_for_the_memory_is_named_with_the_least_that_is_enough(
    tmp_path: Path,
) -> None:
    table = pa.table({"text": ["short", words(3, 40_000)]})
    with pytest.raises(
        PomonaError,
        match=(
            r'384\.0 MiB are not enough: the text of the table, row 2 has 0\.3 MB .* — give "(\d+)MiB" '
            r"or more"
        ),
    ) as caught:
        dedup_substring(table, tmp_path / "out.parquet", unit="token", memory="384MiB")
    assert list(tmp_path.iterdir()) == []
    least = re.search(r"\d+MiB", str(caught.value.remedy))
    assert (
        least
        and dedup_substring(table, tmp_path / "out.parquet", unit="token", memory=least[0]).rows_out
        == 2
    )


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="Linux says what a process held at most"
)
def test_a_process_stays_within_the_memory_it_was_given(tmp_path: Path) -> None:
    rows, width = 5_000, 4000
    data = np.random.default_rng(0).integers(97, 123, rows * width).astype(np.uint8)
    data[-8000:-7000] = data[:1000]
    offsets = np.arange(0, rows * width + 1, width, dtype=np.int32)
    texts = pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(data))
    pq.write_table(pa.table({"text": texts}), tmp_path / "in.parquet")
    script = """
import re, sys
from pomona.data.duplicates.substring import dedup_substring
card = dedup_substring(sys.argv[1], sys.argv[2], unit="byte", min_length=200, memory="448MiB")
print(card.details["passes"], card.details["struck_bytes"], re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1])
"""
    command = [
        sys.executable,
        "-c",
        script,
        str(tmp_path / "in.parquet"),
        str(tmp_path / "out.parquet"),
    ]
    passes, struck, peak = map(
        int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    )
    assert (passes > 1, struck) == (True, 2000)
    assert peak <= 448 * 1024


def test_tables_and_large_pages_are_counted(tmp_path: Path) -> None:
    texts = pa.array([f"{row:040000}" for row in range(700)])
    table = pa.table({"text": texts, "id": range(700)})
    for name, size in (("small", 16), ("large", 1 << 20)):
        options: dict[str, Any] = {
            "data_page_size": 1 << (size.bit_length() + 9),
            "use_dictionary": False,
            "write_batch_size": size,
        }
        pq.write_table(table, tmp_path / f"{name}.parquet", **options)
    text = int(pc.sum(pc.call_function("binary_length", [texts])).as_py())
    page = largest_pages(read(tmp_path / "large.parquet").source)
    assert (
        text < page - 700 * 8 - 4 * 700 < text + 4096
    )  # lengths of texts and ids stand beside them
    assert (
        largest_pages(read(tmp_path / "small.parquet").source) < 1 << 20
        and largest_pages(read(table).source) == 0
    )
    for inputs, why in (
        (table, "the table that is given"),
        (tmp_path / "large.parquet", r"pages of \d+\.\d MB in the Parquet file"),
    ):
        with pytest.raises(
            PomonaError,
            match=rf'384\.0 MiB are not enough: .*{why} take more — give "\d+MiB" or more',
        ):
            dedup_substring(inputs, tmp_path / "out.parquet", memory="384MiB")


def test_parquet_of_any_shape_gives_what_its_table_gives(tmp_path: Path) -> None:
    texts = [f"{words(row, 30)} {words(row % 5, 12)}" for row in range(300)]
    table = pa.table(
        {
            "text": pa.array(texts).dictionary_encode(),
            "a.b": pa.array([[{"x": row}] * (row % 3) for row in range(300)]),
            "lang": ["de", "tr", "ru"] * 100,
        }
    )
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=70, data_page_size=300)
    pq.write_table(table.slice(0, 0), tmp_path / "b.parquet")
    for inputs in (
        read(tmp_path / "*.parquet"),
        read(tmp_path / "*.parquet").where(lang="de").head(90),
    ):
        card = dedup_substring(inputs, tmp_path / "out" / "one.parquet", min_length=12)
        dedup_substring(inputs.to_table(), tmp_path / "out" / "two.parquet", min_length=12)
        one, two = (pq.read_table(tmp_path / "out" / f"{name}.parquet") for name in ("one", "two"))
        assert (
            one.equals(two)
            and card.rows_in == one.num_rows == inputs.count()
            and card.details["rows_struck"] == one.num_rows
        )
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[:2000] + bytes(4000) + data[6000:])
    with pytest.raises(
        PomonaError, match=r"a\.parquet: cannot be read: .* — the file may be damaged"
    ):
        dedup_substring(tmp_path / "a.parquet", tmp_path / "out.parquet")
