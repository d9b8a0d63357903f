"""The ledger on disk, its rows, and what it refuses."""

from __future__ import annotations

import csv
import io
import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pomona.errors import PomonaError
from pomona.ledger import Entry, Ledger, ledger_of, to_csv, to_json
from pomona.ledger.store import extra_compute

Make = Callable[..., Ledger]


def test_reads_what_it_wrote(make_ledger: Make, tmp_path: Path) -> None:
    for number, ledger in enumerate((make_ledger(), make_ledger(ladder=False, groups=False))):
        path = tmp_path / f"{number}.json"
        ledger.write(path)
        assert Ledger.read(path) == ledger


def test_extra_compute_counts_making_and_answering(make_ledger: Make) -> None:
    ledger = make_ledger()
    base, mbr = (
        next(e for e in ledger.entries if e.variant == name)
        for name in ("ui-s", "hedged5/chrf-mbr")
    )
    mbr = replace(mbr, flops_once=1e12)
    assert extra_compute(mbr, base, 1000) == pytest.approx(1e12 + (5.0e8 - 83 * 1.2e6) * 1000)
    assert ledger.extra(base) == 0


def test_extra_compute_is_counted_from_the_entrys_own_baseline_and_group(make_ledger: Make) -> None:
    ledger = make_ledger(groups=False)
    other = replace(
        ledger.entries[-1], variant="new", baseline="hope", flops_once=5.0, flops_per_item=2.4e8
    )
    assert Ledger(ledger.meta, [*ledger.entries, other]).extra(other) == 5.0


def test_gain_is_turned_where_lower_is_better(make_ledger: Make) -> None:
    ledger = make_ledger()
    entry = replace(ledger.entries[0], delta=-1.0, ci_low=-1.5, ci_high=-0.2)
    assert ledger.gain(entry) == (-1.0, -1.5, -0.2)
    assert Ledger(replace(ledger.meta, higher_is_better=False), ledger.entries).gain(entry) == (
        1.0,
        0.2,
        1.5,
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(
    make_ledger: Make, tmp_path: Path, value: float
) -> None:
    ledger = make_ledger()
    ledger.entries[5] = replace(ledger.entries[5], ci_low=value)
    with pytest.raises(
        PomonaError, match=rf"ledger.json: `ci_low` of ui-xs, es is {value} — measure it again"
    ):
        ledger.write(tmp_path / "ledger.json")
    assert list(tmp_path.iterdir()) == []


def test_a_baseline_without_an_entry_is_refused(make_ledger: Make, tmp_path: Path) -> None:
    ledger = make_ledger(groups=False)
    ledger.entries[-1] = replace(ledger.entries[-1], baseline="ui-sm")
    with pytest.raises(
        PomonaError, match='risk, overall: the baseline "ui-sm" has no entry — did you mean "ui-'
    ):
        ledger.write(tmp_path / "ledger.json")
    with pytest.raises(
        PomonaError, match='the base "ui-s" has no "overall" entry — measure the base first'
    ):
        Ledger(ledger.meta, []).write(tmp_path / "ledger.json")


def test_several_metrics_need_one_that_leads(make_ledger: Make, tmp_path: Path) -> None:
    ledger = make_ledger(groups=False)
    more = [replace(e, metric="bits", value=1.0) for e in ledger.entries]
    both = Ledger(replace(ledger.meta, metric="chrf"), [*more, *ledger.entries])
    both.write(tmp_path / "ledger.json")
    assert both.metrics == ["chrf", "bits"]
    assert Ledger.read(tmp_path / "ledger.json").of("overall") == ledger.entries
    assert len(both.of_groups(["overall"])) == len(both.documents()) == 2 * len(more)
    with pytest.raises(
        PomonaError,
        match=r"entries of several metrics \(bits, chrf\), none the header's — name the one that",
    ):
        Ledger(ledger.meta, both.entries).write(tmp_path / "ledger.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: no such file or no permission — run `pomona run`"),
        (
            '{"pomona_ledger": 1, "me',
            "is not a whole JSON file: .* — run `pomona run` on the recipe again",
        ),
        (
            '{"pomona_ledger": 1, "meta": NaN}',
            "is not a whole JSON file: it holds NaN: line 1 column 30 .* — run",
        ),
        ("[]", "is not a ledger: it has no `pomona_ledger` key — name a run's ledger.json"),
        (
            '{"pomona_ledger": 9}',
            "has format 9; this Pomona reads format 1 — upgrade pomona, or run again",
        ),
        ('{"pomona_ledger": 1, "meta": {}, "entries": []}', r"`meta\.name`: .* — run `pomona run`"),
    ],
)
def test_a_broken_file_says_what_to_do(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "ledger.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PomonaError, match=f"ledger.json: {message}"):
        Ledger.read(path)


def test_a_field_of_the_wrong_type_is_named(make_ledger: Make, tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    make_ledger(groups=False).write(path)
    document = json.loads(path.read_text())
    document["entries"][3]["value"] = "<script>"
    path.write_text(json.dumps(document))
    with pytest.raises(PomonaError, match=r"`entries\.3\.value`: "):
        Ledger.read(path)


def test_rows_are_the_same_in_every_format(make_ledger: Make) -> None:
    ledger = make_ledger()
    table, rows = ledger.to_table(), ledger.rows()
    assert table.to_pylist() == rows
    told = json.loads(to_json(ledger))
    assert [
        Entry.from_json({k: v for k, v in row.items() if k != "extra_flops"}) for row in told
    ] == ledger.entries
    assert [row["extra_flops"] for row in told] == [row["extra_flops"] for row in rows]
    read = list(csv.DictReader(io.StringIO(to_csv(ledger))))
    assert [float(row["extra_flops"]) for row in read] == [row["extra_flops"] for row in rows]
    assert read[0].keys() == rows[0].keys()


def test_columns_keep_their_types_without_values(make_ledger: Make) -> None:
    full, bare = make_ledger().to_table(), make_ledger(ladder=False).to_table()
    assert full.schema == bare.schema
    assert bare["scale_ratio"].null_count == bare.num_rows


def test_importing_the_ledger_is_light() -> None:
    check = "import sys, pomona.ledger.store, pomona.ledger.table, pomona.ledger.report; "
    heavy = (
        "print([m for m in ('altair', 'vl_convert', 'pyarrow', 'pydantic', 'jinja2', "
        "'rich', 'numpy') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", check + heavy], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )


def test_a_run_has_its_ledger_or_some_groups_of_it(make_ledger: Make, tmp_path: Path) -> None:
    ledger = make_ledger()
    ledger.write(tmp_path / "ledger.json")
    assert ledger_of(tmp_path) == ledger_of(str(tmp_path / "ledger.json")) == ledger
    groups = list(dict.fromkeys(entry.group for entry in ledger.entries))[::-1]
    some = ledger_of(tmp_path, group=groups)
    assert list(dict.fromkeys(entry.group for entry in some.entries)) == groups
    assert len(some.entries) == len(ledger.entries)
    with pytest.raises(PomonaError, match="nothing: no entry has this group"):
        ledger_of(tmp_path, group=[groups[0], "nothing"])


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"seed": 10**400}, "entries.0.seed"),
        ({"flops_once": 1e300}, "entries.0.flops_once"),
        ({"n": -(10**120)}, "entries.0.n"),
    ],
)
def test_numbers_that_nothing_can_be_computed_from_are_refused(
    make_ledger: Make, tmp_path: Path, change: dict[str, float], key: str
) -> None:
    path = tmp_path / "ledger.json"
    make_ledger(groups=False).write(path)
    document = json.loads(path.read_text())
    document["entries"][0] |= change
    path.write_text(json.dumps(document))
    with pytest.raises(PomonaError, match=rf"`{key}` is larger than any count or cost — run"):
        Ledger.read(path)
