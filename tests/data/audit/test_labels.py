"""Every way a person or a spreadsheet spoils `labels.csv` is an error that says where and what to
do.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pomona.data.audit.labels import Label, digest, labels_text, read_labels, set_label, shown
from pomona.errors import PomonaError

Rows = list[list[str]]
Edit = Callable[[Callable[[Rows], Any]], Path]
NUMBER, SOURCE, TEXT, LABEL, OFFENSIVE = 0, 2, 3, 4, 5


def put(row: int, column: int, value: str) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        rows[row][column] = value

    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put(3, LABEL, "CCC"), r'labels.csv, line 4: "CCC" is not a code — did you mean "CC"\?'),
        (put(3, LABEL, "good"), r'line 4: "good" is not a code — known: CB, CC, CS, NL, WL, X'),
        (
            put(3, OFFENSIVE, "maybe"),
            r'line 4: offensive is "maybe" — write 1 for yes, nothing for no',
        ),
        (
            put(3, NUMBER, "three"),
            r'line 4: "three" is not a number of the sample — restore the number',
        ),
        (put(3, NUMBER, "9" * 5000), r'line 4: "9{20}" is not a number of the sample'),
        (put(3, NUMBER, "2"), r"line 4: number 2 is there twice — delete one of the two rows"),
        (
            put(3, NUMBER, "99"),
            r"line 4: number 99 is not in the sample — delete the row, or restore its number",
        ),
        (
            put(3, TEXT, "another text"),
            r"line 4: row number 3 is not the text that was sampled — undo the change",
        ),
        (
            put(3, SOURCE, "another source"),
            r"line 4: row number 3 is not the text that was sampled",
        ),
        (
            lambda rows: rows.pop(3),
            r"labels.csv: 1 number of the sample is missing: 3 — put the rows back",
        ),
        (
            lambda rows: rows.__delitem__(slice(1, 9)),
            r"8 numbers of the sample are missing: 1, 2, 3, 4, 5, … — put the rows back",
        ),
        (
            lambda rows: rows[3].pop(),
            (
                r"line 4: 6 fields where the header has 7 — put text with commas or line ends "
                r"between double quotes"
            ),
        ),
        (
            lambda rows: rows.pop(0),
            (
                r"line 1: the header is not the one of the audit — restore the header.*: "
                r"number,lang,source,text,label"
            ),
        ),
        (lambda rows: rows.clear(), r"line 1: the header is not the one of the audit"),
    ],
)
def test_bad_files_are_named(edit: Edit, change: Callable[[Rows], Any], says: str) -> None:
    folder = edit(change)
    with pytest.raises(PomonaError, match=says):
        read_labels(folder)


def test_other_encodings_are_named(audit: Path) -> None:
    path = audit / "labels.csv"
    text = path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-16")
    with pytest.raises(
        PomonaError,
        match=r"labels.csv: the file is not UTF-8 — save it as CSV with the encoding UTF-8",
    ):
        read_labels(audit)
    path.write_text(text.replace(",", ";"), encoding="utf-8")
    with pytest.raises(
        PomonaError,
        match="the header is not the one of the audit — restore the header, separated by commas",
    ):
        read_labels(audit)
    path.write_text(text.encode().decode("latin-1"), encoding="utf-8")
    with pytest.raises(
        PomonaError,
        match=(
            r"is not the text that was sampled — undo the change .the file may have been "
            r"saved in another"
        ),
    ):
        read_labels(audit)
    path.write_text(text + '"never ends', encoding="utf-8")
    with pytest.raises(PomonaError, match=r"not valid CSV: .* — repair the quotes"):
        read_labels(audit)


def test_missing_files_are_named(audit: Path, tmp_path: Path) -> None:
    with pytest.raises(
        PomonaError,
        match=(
            r"nowhere/key.json: there is no audit here — make one with `pomona data "
            r"audit sample`, or name its folder"
        ),
    ):
        read_labels(tmp_path / "nowhere")
    (audit / "labels.csv").unlink()
    with pytest.raises(
        PomonaError,
        match=r"labels.csv: there is no such file — put it back, or draw the sample again",
    ):
        read_labels(audit)
    (audit / "key.json").write_text('{"rows": [{"number": 1}]}')
    with pytest.raises(
        PomonaError, match=r"key.json: the key of the audit is damaged — take it from a backup"
    ):
        read_labels(audit)


@pytest.mark.parametrize(
    "change",
    [
        {"by": 3},
        {"parallel": 1},
        {"sizes": []},
        {"sizes": {"de": "40"}},
        {"sizes": {}},
        {"signature": None},
        {"rows": 3},
        {"rows": [{"number": 1}]},
        {"rows": [7]},
    ],
)
def test_a_damaged_key_is_named(audit: Path, change: dict[str, Any]) -> None:
    about = json.loads((audit / "key.json").read_text())
    (audit / "key.json").write_text(json.dumps(about | change))
    with pytest.raises(PomonaError, match=r"key\.json: the key of the audit is damaged — take it"):
        read_labels(audit)


def test_labels_that_are_no_file_are_named(audit: Path) -> None:
    (audit / "labels.csv").unlink()
    os.mkfifo(audit / "labels.csv")
    with pytest.raises(PomonaError, match=r"labels\.csv: cannot be read: it is a pipe"):
        read_labels(audit)
    (audit / "labels.csv").unlink()
    (audit / "labels.csv").mkdir()
    with pytest.raises(PomonaError, match=r"labels\.csv: cannot be read: Is a directory"):
        read_labels(audit)


def test_what_spreadsheets_do_is_forgiven(edit: Edit) -> None:
    def change(rows: Rows) -> None:
        rows[1][LABEL], rows[2][LABEL], rows[2][OFFENSIVE] = " cc ", "wl", "YES"
        rows[3][TEXT] = rows[3][TEXT] + "  "
        rows[1:] = reversed(rows[1:])

    folder = edit(change)
    path = folder / "labels.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    rows = read_labels(folder)
    assert [row.number for row in rows] == list(range(1, 41))
    assert [(row.label, row.offensive) for row in rows[:3]] == [
        ("CC", False),
        ("WL", True),
        ("", False),
    ]


def test_setting_a_label_keeps_the_others(audit: Path) -> None:
    for number, code in ((1, "CC"), (40, "nl"), (1, "WL"), (2, "X")):
        set_label(audit, number, code, offensive=number == 40, porn=False)
    rows = {row.number: row for row in read_labels(audit)}
    assert (rows[1].label, rows[2].label, rows[40].label, rows[40].offensive, rows[3].label) == (
        "WL",
        "X",
        "NL",
        True,
        "",
    )
    with pytest.raises(PomonaError, match="number 41 is not in the sample — use 1 to 40"):
        set_label(audit, 41, "CC", False, False)


def test_x_needs_a_source(tmp_path: Path) -> None:
    import pyarrow as pa

    from pomona.data.audit import sample_audit

    sample_audit(pa.table({"lang": ["de"], "text": ["gut"]}), tmp_path / "a")
    with pytest.raises(
        PomonaError,
        match=(
            "number 1: X is for translations, and this audit has no source text — use CC, CB, "
            "CS, WL or NL"
        ),
    ):
        set_label(tmp_path / "a", 1, "X", False, False)


@given(st.lists(st.tuples(st.text(), st.text()), min_size=1, max_size=5))
def test_any_text_reads_back_as_it_was_sampled(pairs: list[tuple[str, str]]) -> None:
    import csv
    import io

    rows = [
        Label(n, "de", shown(_utf8(one)), shown(_utf8(two)))
        for n, (one, two) in enumerate(pairs, 1)
    ]
    back = list(csv.reader(io.StringIO(labels_text(rows, "lang"), newline="")))[1:]
    for row, fields in zip(rows, back, strict=True):
        assert digest(fields[1], fields[SOURCE], fields[TEXT]) == digest(
            row.group, row.source, row.text
        )
        assert not re.match(r"[=+\-@\t]", fields[TEXT])


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
