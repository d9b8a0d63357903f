"""The ledger in the terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from pomona.errors import PomonaError
from pomona.ledger import Ledger, print_table

Make = Callable[..., Ledger]


def _printed(
    ledger: Ledger, width: int, groups: list[str] | None = None, *, colour: bool = False
) -> str:
    stream = io.StringIO()
    print_table(
        ledger,
        groups,
        Console(
            file=stream,
            width=width,
            force_terminal=colour,
            color_system="standard" if colour else None,
        ),
    )
    return stream.getvalue()


def test_fits_eighty_columns_with_every_number_whole(make_ledger: Make) -> None:
    text = _printed(make_ledger(), 80)
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    line = next(line for line in text.splitlines() if "hedged5/chrf-mbr" in line)
    assert line.split() == [
        "hedged5/chrf-mbr",
        "+1.60",
        "[+1.11,",
        "+2.11]",
        "4×10¹³",
        "×1.46",
        "[1.2,",
        "1.8]",
    ]


def test_a_wide_terminal_shows_every_column(make_ledger: Make) -> None:
    text = _printed(make_ledger(), 130)
    for name in ("lever", "variant", "value", "gain", "95 %", "n", "extra FLOPs", "× scale"):
        assert name in text
    assert "beyond the ladder" in text


@pytest.mark.parametrize("width", [30, 40, 52, 60, 70, 76, 80, 90, 99, 101, 110, 119])
def test_a_narrow_terminal_drops_columns_and_never_a_name(make_ledger: Make, width: int) -> None:
    ledger = make_ledger()
    text = _printed(ledger, width, ["overall"])
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for entry in ledger.of("overall"):
        line = next(line for line in text.splitlines() if entry.variant in line.split())
        assert any(sign in line for sign in "+−") or entry.variant == "ui-s"
    heads = text.split("────")[0]
    told = " ".join(text.split("Too narrow for: ")[-1].split())
    for name in ("lever", "value", "95 %", "n", "extra FLOPs", "× scale"):
        assert (f" {name} " in heads) is not (f"{name}," in told or f"{name}." in told)


def test_long_names_are_folded_and_stay_whole(make_ledger: Make) -> None:
    ledger = make_ledger(groups=False)
    long = "merge/task_arithmetic density=0.25 lambda=0.5 without germanic"
    ledger.entries[-1] = replace(ledger.entries[-1], variant=long)
    rows = _printed(ledger, 60).splitlines()
    start = next(i for i, line in enumerate(rows) if "merge/task" in line)
    folded = "".join(re.split(r" {2,}", line.strip())[0] for line in rows[start : start + 3])
    assert long.replace(" ", "") in folded.replace(" ", "")


def test_what_is_not_known_is_said(make_ledger: Make) -> None:
    ledger = make_ledger(groups=False)
    ledger.entries[2] = replace(ledger.entries[2], flops_once=None)
    line = next(line for line in _printed(ledger, 130).splitlines() if " ui-m " in line)
    assert " unknown " in line


def test_small_losses_show_the_digits_that_count(make_ledger: Make) -> None:
    ledger = make_ledger(groups=False)
    ledger.meta = replace(ledger.meta, metric="loss", higher_is_better=False)
    small = [
        replace(
            e,
            value=2.1 + e.delta / 1000,
            delta=e.delta / 1000,
            ci_low=e.ci_low / 1000,
            ci_high=e.ci_high / 1000,
        )
        for e in ledger.entries
    ]
    ledger.entries[:] = small
    line = next(line for line in _printed(ledger, 130).splitlines() if "hedged5/chrf-mbr" in line)
    assert line.split()[1:6] == ["hedged5/chrf-mbr", "2.1016", "−0.0016", "[−0.0021,", "−0.0011]"]


def test_groups_are_chosen(make_ledger: Make) -> None:
    assert [line for line in _printed(make_ledger(), 80).splitlines() if "against" in line][
        1
    ].startswith("tail: chrF against ui-s")
    assert "cy: chrF against ui-s" in _printed(make_ledger(), 80, ["cy"])
    assert "tail:" not in _printed(make_ledger(groups=False), 80)
    with pytest.raises(PomonaError, match='tial: no entry has this group — did you mean "tail"'):
        _printed(make_ledger(), 80, ["tial"])


def test_no_scale_column_without_a_ladder(make_ledger: Make) -> None:
    assert "× scale" not in _printed(make_ledger(ladder=False), 130)


def test_no_color_is_honoured(make_ledger: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[32m" in _printed(make_ledger(), 80, colour=True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in _printed(make_ledger(), 80, colour=True)


def test_names_cannot_steer_the_terminal(make_ledger: Make) -> None:
    ledger = make_ledger(groups=False)
    ledger.entries[-1] = replace(ledger.entries[-1], variant="\x1b[2J[red]x[/red]\n\u202e")
    text = _printed(ledger, 80)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[red]x[/red]" in text
