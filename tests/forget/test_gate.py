"""The gate: what fails, by which reading of the limit, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.files import beside
from pomona.forget import check


def side(wrong: dict[str, int], n: int = 40) -> pa.Table:
    """Answers of which the first few of each group are wrong; one group has one item."""
    rows = [
        {"id": f"{name}{i}", "group": name, "prediction": str(int(i >= few)), "reference": "1"}
        for name, few in wrong.items()
        for i in range(1 if name == "one\x1b" else n)
    ]
    return pa.Table.from_pylist(rows)


A = side({"cy": 0, "fr": 0, "one\x1b": 0})
B = side({"cy": 4, "fr": 0, "one\x1b": 1})


@pytest.mark.parametrize(
    ("by", "failed", "unknown"),
    [
        ("estimate", ["cy", "one\x1b"], []),
        ("proven", [], ["one\x1b"]),
        ("possible", [None, "cy", "one\x1b"], []),
    ],
)
def test_a_limit_is_on_the_estimate_or_on_either_end(
    by: Any, failed: list[str | None], unknown: list[str]
) -> None:
    result = check(A, B, max_group_loss=8, by=by)
    assert [case.group for case in result.cases if case.passed is False] == failed
    assert [case.group for case in result.cases if case.passed is None] == unknown
    assert result.passed is not bool(failed)


def test_a_group_without_flips_may_be_too_small_to_be_sure_of() -> None:
    few = side({"cy": 2, "fr": 0})
    assert check(few, few, max_group_loss=2).passed
    case = check(few, few, max_group_loss=2, by="possible").cases[1]
    assert case.passed is False and case.high == 0
    assert case.said.endswith("nothing flipped, and up to 7.2 % may still do so unseen")
    assert check(few, few, max_group_loss=7.3, by="possible").passed
    assert not check(few, few, max_group_loss=7.1, by="possible").passed


def test_gains_are_no_losses_but_flips() -> None:
    assert check(B, A, max_group_loss=0, max_flips=7).passed
    flips = check(B, A, max_flips=6)
    assert not flips.passed
    assert flips.cases[0].value == pytest.approx(500 / 81)
    assert check(A, A, max_group_loss=0, max_flips=0).passed


def test_exit_codes_json_and_junit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b, junit = (str(tmp_path / name) for name in ("a.parquet", "b.parquet", "junit.xml"))
    pq.write_table(A, a)
    pq.write_table(B, b)
    words = ["forget", "check", a, b, "--max-group-loss", "2", "--max-flips", "3"]
    left = beside(
        tmp_path / "junit.xml", pid=4194399
    )  # of a killed writer, whose number is no more
    left.write_text("<?xml")
    assert main([*words, "--junit", junit]) == 1
    assert not left.exists()
    out = capsys.readouterr().out
    assert "FAILED: cy: loss 10.00 points (95 %: 2.50 to 20.00), at most 2 by the estimate" in out
    assert "passed: fr" in out
    suite = ElementTree.parse(junit).getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("5", "4")
    failing = [
        test.get("name") for test in suite.iter("testcase") if test.find("failure") is not None
    ]
    assert failing == ["loss: all items", "loss: cy", "loss: one\ufffd", "flips: all items"]

    assert main([*words, "--junit", junit, "--format", "json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["passed"], len(told["cases"])) == (False, 5)

    saved = tmp_path / "saved.json"
    saved.write_text(json.dumps(told["comparison"]))
    assert main(["forget", "check", str(saved), "--max-group-loss", "100"]) == 0
    assert main(["forget", "check", str(saved), "--max-flips", "6"]) == 1
    assert "flips 6.17 % of items" in capsys.readouterr().out


def test_what_cannot_be_checked_is_told_and_nothing_replaced(tmp_path: Path) -> None:
    saved, mine = tmp_path / "saved.json", tmp_path / "junit.xml"
    mine.write_text("<testsuite name='mine'/>")
    message = "is not what `pomona forget check` wrote, so it is not replaced — move it away"
    with pytest.raises(PomonaError, match=message):
        check(A, B, max_flips=3, junit=mine)
    assert mine.read_text() == "<testsuite name='mine'/>"
    with pytest.raises(PomonaError, match="there is no limit to check — give --max-group-loss or"):
        check(A, B)
    with pytest.raises(PomonaError, match="max-flips: 300 is no percentage — give 0 to 100"):
        check(A, B, max_flips=300)
    message = 'cluster: is "c", and a comparison that was written has its own — give it to `pomona'
    with pytest.raises(PomonaError, match=message):
        check(saved, max_flips=3, cluster="c")
    with pytest.raises(PomonaError, match="there is only one side — give two sides, or the file"):
        check(A, max_flips=3)
    for text, message in (
        ("[]", "is not an object of JSON — give two tables, or what `pomona forget compare A B"),
        ('{"pomona_comparison": 2}', "has format 2; this Pomona reads format 1"),
        ('{"pomona_comparison": 1, "a": "a"}', "`b`: Field required"),
    ):
        saved.write_text(text)
        with pytest.raises(PomonaError, match=message):
            check(saved, max_flips=3)
