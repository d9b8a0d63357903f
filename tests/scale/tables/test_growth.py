"""Doubling times and makers: known laws, Epoch's table, and tables that cannot tell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.scale import growth

Write = Callable[..., Path]
Real = Callable[[str], Path]


def doubling(table: Write, months: float = 6, years: int = 6) -> Path:
    rows = []
    for i in range(4 * years):
        year, quarter = 2015 + i // 4, 3 * (i % 4) + 1
        size = 1e7 * 2 ** (3 * i / months)
        for place, maker in enumerate(("University of A", "Google", "Google,MIT")):
            times = (0.9, 1.0, 1.1)[place]
            rows.append(f"m{i}{place},{size * times:.0f},{year}-{quarter:02}-01,{maker!r}")
    return table("model,params,date,organization", *(row.replace("'", '"') for row in rows))


def test_a_known_doubling_time_is_found(table: Write) -> None:
    told = growth(doubling(table), top=2)
    for trend in (told.quantities["params"].overall, told.quantities["params"].frontier):
        assert trend.months.value == pytest.approx(6, rel=0.02)
        assert trend.per_year.value == pytest.approx(4, rel=0.03)
    first = told.makers[0]
    assert (first.year, first.n, first.known) == (2015, 12, 12)
    for share in (first.academia, first.industry, first.both):
        assert share.value == pytest.approx(1 / 3)
        assert share.low is not None and share.high is not None
        assert share.low < 1 / 3 < share.high
    assert set(told.quantities) == {"params"}


def test_compute_of_notable_models_doubles_in_under_half_a_year(real: Real) -> None:
    told = growth(real("epoch_notable_models_min.csv"), since="2010-01")
    compute = told.quantities["flop"]
    assert compute.overall.n == 453
    assert compute.overall.months.value == pytest.approx(5.68, abs=0.01)
    low, high = compute.overall.months.low, compute.overall.months.high
    assert low is not None and high is not None and 4.9 < low < 5.68 < high < 6.5
    assert compute.frontier.months.value == pytest.approx(5.3, abs=0.1)
    years = {one.year: one for one in told.makers}
    early, late = years[2012].academia.value, years[2025].academia.value
    assert early is not None and late is not None and early > 0.5 and late < 0.1
    assert any("has several numbers: unknown" in note for note in told.notes)


def test_what_a_table_cannot_tell_is_said(table: Write) -> None:
    few = table("model,params,date", *(f"m{i},{i + 1}e9,2020-0{i + 1}" for i in range(4)))
    trend = growth(few).quantities["params"].overall
    assert (trend.months.value, trend.n) == (None, 4)
    assert trend.why == "4 models are too few for a line: 5 are needed"
    short = table("model,params,date", *(f"m{i},{i + 1}e9,2020-0{i + 1}" for i in range(8)))
    trend = growth(short).quantities["params"].overall
    assert trend.why == "the models span 7 months: a line needs a year"
    told = growth(short)
    assert told.makers == []
    assert "there is no column of organisations: who makes models is unknown" in told.notes
    shrinking = table("model,params,date", *(f"m{i},{9 - i}e9,{2010 + i}-01" for i in range(8)))
    trend = growth(shrinking).quantities["params"].overall
    assert trend.months.value is None and trend.per_year.value is not None


def test_bad_tables_are_refused(table: Write) -> None:
    for lines, options, said in (
        (("model,params", "a,1e9"), {}, "no column is known to hold dates — name one by --date"),
        (("model,date", "a,2020-01"), {}, "there is no column of parameters, tokens or compute"),
        (("model,params,date", "a,1e9,2020-01"), {"since": "2021"}, 'a day is "2021"'),
        (("model,params,date", "a,1e9,2020-01"), {"since": "2021-01"}, "no model has a date in"),
        (("model,params,date", "a,1e9,2020-01"), {"top": 0}, "0 models are no frontier"),
        (("model,params,date", "a,0,2020-01"), {}, 'row 1 (a): "params" is 0, but must be above'),
    ):
        with pytest.raises(PomonaError) as caught:
            growth(table(*lines), **options)
        assert said in str(caught.value)


def test_the_command_prints_json_and_a_page(
    table: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, page = str(doubling(table)), tmp_path / "page"
    assert main(["scale", "growth", path, "--page", str(page)]) == 0
    said = capsys.readouterr().out
    assert "6.0 [6.0, 6.0]" in said or "6.0 [" in said
    assert "data:image/svg+xml" in (page / "index.html").read_text()
    assert main(["scale", "growth", path, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["quantities"]["params"]["overall"]["months"]["value"] == pytest.approx(6, rel=0.02)


@pytest.mark.parametrize(
    "said", ["Academia,Industry", "Industry - Academia Collaboration", "industry; academia"]
)
def test_a_column_of_sectors_says_both_in_any_form(said: str, table: Write) -> None:
    rows = [f'm{i},201{i}-01-01,{10**i}e6,"{said}"' for i in range(1, 6)]
    makers = growth(table("model,date,params,sector", *rows)).makers
    assert [one.both.value for one in makers] == [1.0] * 5


def test_of_one_day_the_larger_model_counts_against_the_smaller(table: Write) -> None:
    days = [f"201{i}-01-01,{size * 4**i}e6" for i in range(6) for size in (1, 2)]
    rows = [f"m{i},{row}" for i, row in enumerate(days)]
    trend = growth(table("model,date,params", *rows), top=1).quantities["params"]
    assert (trend.overall.n, trend.frontier.n) == (12, 6)
