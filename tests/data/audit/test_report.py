"""What the report counts, and that its page is small, safe and drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from pomona.data.audit import CODES, audit_report, sample_audit
from pomona.data.audit.labels import read_key, read_labels, set_label
from pomona.data.audit.page import percent
from pomona.data.audit.report import kappa
from pomona.stats import wilson

HOSTILE = "</title><script>document.title='taken'</script><img src=x onerror=alert(1)>"


def test_prelabels_stand_in_for_people(audit: Path) -> None:
    report = audit_report(audit)
    shares = {group.name: group.shares for group in report.groups}
    assert [shares[lang]["C"].value for lang in ("de", "ja", "ru", "tr")] == [1, 1, 1, 0]
    assert shares["tr"]["WL"].value == 1
    assert (report.labelled, report.agreement, report.kappa) == (0, None, None)
    assert report.counts == {"groups": 4, "0 % C": 1, "< 50 % C": 1, "> 50 % NL": 0, "> 50 % WL": 1}
    assert report.macro["C"].value == report.micro["C"].value == 0.75
    assert dict(report.curve)[0.0] == 0
    assert dict(report.curve)[0.01] == dict(report.curve)[1.0] == 0.25


def test_people_override_and_agreement_is_told(audit: Path) -> None:
    rows = read_labels(audit)
    turkish = [row.number for row in rows if row.group == "tr"]
    german = [row.number for row in rows if row.group == "de"]
    for number in turkish:
        set_label(audit, number, "WL", offensive=number == turkish[0], porn=False)
    for number in german[:5]:
        set_label(audit, number, "X", False, False)
    for number in german[5:]:
        set_label(audit, number, "CC", False, False)
    report = audit_report(audit)
    shares = {group.name: group.shares for group in report.groups}
    assert (shares["de"]["C"].value, shares["de"]["X"].value) == (0.5, 0.5)
    assert shares["tr"]["offensive"].value == 0.1
    assert "offensive" not in shares["ru"]
    assert report.labelled == 20
    assert report.agreement and (report.agreement.value, report.agreement.n) == (0.75, 20)
    assert report.kappa == pytest.approx((0.75 - 0.375) / (1 - 0.375))
    low, high = wilson(5, 10)
    assert (shares["de"]["C"].low, shares["de"]["C"].high) == (float(low), float(high))


def test_micro_weights_groups_by_their_rows(tmp_path: Path) -> None:
    rows = [
        {
            "lang": "de",
            "text": "Wählen Sie das Fenster mit der Nummer " + "abcdefgh"[i % 8] + str(i),
        }
        for i in range(90)
    ]
    rows += [{"lang": "ru", "text": "Choose the window with this number"}] * 10
    sample_audit(pa.Table.from_pylist(rows), tmp_path / "a", n=10)
    report = audit_report(tmp_path / "a")
    assert (report.macro["C"].value, report.micro["C"].value) == (0.5, 0.9)
    low, high = (float(end) for end in wilson(10, 10))
    assert report.macro["C"].low == pytest.approx(0.5 - 0.5 * (high - low))
    assert report.macro["C"].high == pytest.approx(0.5 + 0.5 * float(wilson(0, 10)[1]))
    assert report.micro["C"].n == 20


@given(st.lists(st.tuples(st.sampled_from(CODES), st.sampled_from(CODES)), min_size=1, max_size=60))
def test_kappa_is_at_most_one_and_one_only_when_all_agree(pairs: list[tuple[str, str]]) -> None:
    value = kappa(pairs)
    if value is not None:
        assert value <= 1
        assert (value == 1) == all(one == other for one, other in pairs)
    else:
        assert len(set(pairs)) == 1


def test_kappa_of_the_textbook() -> None:
    pairs = [("CC", "CC")] * 20 + [("CC", "NL")] * 5 + [("NL", "CC")] * 10 + [("NL", "NL")] * 15
    assert kappa(pairs) == pytest.approx(0.4)
    assert kappa([]) is None


def test_json_and_table_hold_the_numbers(audit: Path) -> None:
    report = audit_report(audit)
    written = json.loads((audit / "report.json").read_text(encoding="utf-8"))
    assert written["macro"]["C"] == {
        "value": 0.75,
        "low": report.macro["C"].low,
        "high": report.macro["C"].high,
        "n": 40,
    }
    assert len(written["curve"]) == 101
    assert written["signature"] == read_key(audit)[0]["signature"]
    table = report.table()
    assert table.column_names == ["group", "code", "share", "low", "high", "n"]
    assert table.num_rows == (4 + 2) * 7


def test_page_is_small_escapes_and_carries_no_script(tmp_path: Path) -> None:
    table = pa.table(
        {HOSTILE: [HOSTILE] * 3, "text": ["Wählen Sie bitte ein Fenster aus.", HOSTILE, "x"]}
    )
    sample_audit(table, tmp_path / "a", by=HOSTILE)
    audit_report(tmp_path / "a")
    page = (tmp_path / "a/report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img src=x" not in page
    assert len(page) < 300_000


def test_page_tells_when_nobody_labelled(audit: Path) -> None:
    audit_report(audit)
    page = (audit / "report.html").read_text(encoding="utf-8")
    assert (
        "By automatic pre-labels alone, 75 % of the rows are correct on average over 4 "
        "groups, and in 1 of them fewer than half"
    ) in page
    for row in read_labels(audit):
        set_label(audit, row.number, "CC", False, False)
    audit_report(audit)
    assert "All 40 rows have the label of a person." in (audit / "report.html").read_text(
        encoding="utf-8"
    )


def test_percents() -> None:
    assert [percent(share) for share in (0, 0.001, 0.2925, 0.996, 1)] == [
        "0 %",
        "<1 %",
        "29 %",
        ">99 %",
        "100 %",
    ]


def test_page_opens_offline(audit: Path, browser: Any) -> None:
    audit_report(audit)
    page = audit / "report.html"
    browser.requests.clear()
    browser.complaints.clear()
    browser.call("Page.navigate", url=page.as_uri())
    drawn = "[...document.images].filter(one => one.complete && one.naturalWidth > 200).length"
    assert wait_for(browser, drawn, 2)
    assert browser.complaints == []
    assert all(url == page.as_uri() or url.startswith("data:") for url in browser.requests)


def wait_for(browser: Any, script: str, value: object) -> bool:
    import time

    for _ in range(100):
        if browser.run(script) == value:
            return True
        time.sleep(0.1)
    return False


def test_spoilt_labels_leave_the_last_report(audit: Path, edit: Callable[..., Path]) -> None:
    audit_report(audit)
    before = (audit / "report.json").read_bytes()
    edit(lambda rows: rows.pop())
    with pytest.raises(Exception, match="number of the sample is missing"):
        audit_report(audit)
    assert (audit / "report.json").read_bytes() == before
