"""The sample: stratified, blind, the same whatever the files, and never over labels that are
there.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.data.audit import sample_audit
from pomona.data.audit.labels import read_labels
from pomona.errors import PomonaError
from pomona.records import Card, write

Make = Callable[..., pa.Table]
GOOD = ("de", "ru", "ja", "tr")


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def key_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "key.json").read_text(encoding="utf-8"))


def test_every_group_has_its_rows_and_the_order_is_mixed(corpus: Make, tmp_path: Path) -> None:
    card = sample_audit(corpus(), tmp_path / "a", english="english", n=10)
    rows = rows_of(tmp_path / "a")
    assert list(rows[0]) == ["number", "lang", "source", "text", "label", "offensive", "porn"]
    assert Counter(row["lang"] for row in rows) == dict.fromkeys(GOOD, 10)
    assert [row["number"] for row in rows] == [str(number) for number in range(1, 41)]
    assert len({row["lang"] for row in rows[:10]}) > 1
    assert (card.rows_in, card.rows_out, card.groups["de"]) == (160, 40, (40, 10))
    assert json.loads((tmp_path / "a.card.json").read_text())["signature"] == card.signature
    assert card.signature.startswith(
        "audit-sample|column:text|english:english|by:lang|n:10|seed:0|language_id:script|version:"
    )


def test_the_person_is_blind(corpus: Make, tmp_path: Path) -> None:
    sample_audit(corpus(), tmp_path / "a", english="english", n=10)
    text = (tmp_path / "a/labels.csv").read_text(encoding="utf-8")
    assert all(
        row["label"] == row["offensive"] == row["porn"] == "" for row in rows_of(tmp_path / "a")
    )
    assert not any(f"{lang}-" in text for lang in GOOD)
    key = {row["number"]: row for row in key_of(tmp_path / "a")["rows"]}
    for row in rows_of(tmp_path / "a"):
        known = key[int(row["number"])]
        source = corpus().to_pylist()[int(known["where"].removeprefix("the table, row ")) - 1]
        assert (source["id"], source["text"], source["lang"]) == (
            known["id"],
            row["text"],
            row["lang"],
        )
        assert known["prelabel"] == ("WL" if row["lang"] == "tr" else "CC")


def test_the_sample_depends_on_rows_and_seed_but_not_on_files(corpus: Make, tmp_path: Path) -> None:
    table = corpus()
    for name, part in (
        ("0", table.slice(0, 33)),
        ("1", table.slice(33, 90)),
        ("2", table.slice(123)),
    ):
        pq.write_table(part, tmp_path / f"part-{name}.parquet", row_group_size=7)
    write(table, tmp_path / "all.jsonl")
    sources = {
        "table": table,
        "files": str(tmp_path / "part-*.parquet"),
        "jsonl": tmp_path / "all.jsonl",
    }
    for name, source in sources.items():
        sample_audit(source, tmp_path / name, n=5)
    texts = {name: (tmp_path / name / "labels.csv").read_text() for name in sources}
    assert texts["table"] == texts["files"] == texts["jsonl"]
    sample_audit(table, tmp_path / "other", n=5, seed=1)
    assert (tmp_path / "other/labels.csv").read_text() != texts["table"]
    places = {row["where"] for row in key_of(tmp_path / "files")["rows"]}
    assert any(place.startswith(f"{tmp_path}/part-2.parquet, row ") for place in places)


def test_rows_are_drawn_evenly(corpus: Make, tmp_path: Path) -> None:
    drawn: Counter[str] = Counter()
    for seed in range(60):
        sample_audit(corpus(10), tmp_path / str(seed), n=5, seed=seed)
        drawn.update(row["id"] for row in key_of(tmp_path / str(seed))["rows"])
    assert len(drawn) == 40
    assert 12 <= min(drawn.values()) <= max(drawn.values()) <= 48


def test_small_groups_are_taken_whole_and_groups_need_not_be_text(tmp_path: Path) -> None:
    table = pa.table({"year": [1, 1, 1, 2], "text": ["eins", "zwei", "drei", "vier"]})
    card = sample_audit(table, tmp_path / "a", by="year", n=2)
    assert card.groups == {"1": (3, 2), "2": (1, 1)}
    assert "source" not in rows_of(tmp_path / "a")[0]


def test_lines_that_recur_in_the_group_are_boilerplate(tmp_path: Path) -> None:
    rows = [
        {"lang": "de", "text": f"Alle Rechte sind vorbehalten, auch hier.\nSeite {i}"}
        for i in range(12)
    ]
    rows += [{"lang": "nl", "text": "Alle rechten zijn voorbehouden, ook hier."}] * 9
    sample_audit(pa.Table.from_pylist(rows), tmp_path / "a")
    found = {(row["group"], row["prelabel"]) for row in key_of(tmp_path / "a")["rows"]}
    assert found == {("de", "CB"), ("nl", "CC")}


def test_hostile_texts_survive_the_csv_and_are_no_formulas(tmp_path: Path) -> None:
    texts = [
        '=HYPERLINK("http://x.invalid")',
        "@SUM(A1)",
        'a "quoted", text\nwith lines\r\nand more\x00\x1b[31m',
        "-1",
        "'quoted",
        "x" * 9000,
    ]
    sample_audit(pa.table({"lang": ["de"] * 6, "text": texts}), tmp_path / "a")
    shown = {row["text"] for row in rows_of(tmp_path / "a")}
    assert not any(text.startswith(("=", "@", "-", "+")) for text in shown)
    assert max(map(len, shown)) == 2004
    assert not any("\x1b" in text or "\x00" in text for text in shown)
    assert len(read_labels(tmp_path / "a")) == 6


def test_labels_are_never_overwritten(corpus: Make, tmp_path: Path) -> None:
    sample_audit(corpus(), tmp_path / "a", n=1)
    before = (tmp_path / "a/labels.csv").read_bytes()
    with pytest.raises(
        PomonaError, match=r"a: is there already, perhaps with labels in it — name a new folder"
    ):
        sample_audit(corpus(), tmp_path / "a", n=2)
    assert (tmp_path / "a/labels.csv").read_bytes() == before


def test_a_kill_leaves_no_folder_that_the_next_run_would_refuse(
    corpus: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException): ...

    written = Card.write

    def killed(card: Card, out: Path) -> None:
        written(card, out)
        raise Killed

    rows = corpus()
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Card, "write", killed)
        sample_audit(rows, tmp_path / "a", n=1)
    assert not (tmp_path / "a").exists()
    assert sample_audit(rows, tmp_path / "a", n=1).rows_out


def test_dry_run_writes_nothing(corpus: Make, tmp_path: Path) -> None:
    card = sample_audit(corpus(), tmp_path / "a", n=10, dry_run=True)
    assert card.rows_out == 40
    assert list(tmp_path.iterdir()) == []


def test_progress_is_told(corpus: Make, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    sample_audit(
        corpus(), tmp_path / "a", n=1, progress=lambda done, total: told.append((done, total))
    )
    assert told[-1] == (160, 160)


def test_bad_input_is_named(corpus: Make, tmp_path: Path) -> None:
    table = corpus(3)
    out = tmp_path / "a"
    with pytest.raises(PomonaError, match=r'there is no column "txt" — did you mean "text"'):
        sample_audit(table, out, column="txt")
    nulls = [{"lang": "de", "text": "gut"}, {"lang": "de", "text": None}]
    write(pa.Table.from_pylist(nulls), tmp_path / "nulls.jsonl")
    with pytest.raises(
        PomonaError,
        match=r'nulls.jsonl, row 2: column "text" is null — fill it, or leave such rows out: --on-error drop',
    ):
        sample_audit(tmp_path / "nulls.jsonl", out)
    with pytest.raises(PomonaError, match=r'row 1: column "lang" is null'):
        sample_audit(pa.table({"lang": pa.array([None], pa.string()), "text": ["x"]}), out)
    with pytest.raises(
        PomonaError, match=r'column "text" holds int64, not text — name a column of strings'
    ):
        sample_audit(pa.table({"lang": ["de"], "text": [1]}), out)
    with pytest.raises(PomonaError, match="there are no rows"):
        sample_audit(table.slice(0, 0), out)
    with pytest.raises(PomonaError, match="n: 0 rows of each group is no sample — use 100"):
        sample_audit(table, out, n=0)
    with pytest.raises(
        PomonaError, match=r'by: the groups cannot be called "source" in labels.csv'
    ):
        sample_audit(table, out, by="source")
    with pytest.raises(PomonaError, match="text, source text and groups are three columns"):
        sample_audit(table, out, english="text")
    broken = pa.StringArray.from_buffers(
        1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xe9x")
    )
    with pytest.raises(
        PomonaError, match=r'the table, row 1: column "text" is not valid UTF-8 — decode'
    ):
        sample_audit(pa.table({"lang": ["de"], "text": broken}), out)
    assert not out.exists()
