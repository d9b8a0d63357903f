"""How progress looks, and what it thinks is left."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, strategies as st
from rich.console import Console

from pomona.cli.progress import Lines, Pace, bars
from pomona.pages import clock, size

STEPS = [("test items", 10.0), ("fine-tune prune/middle", 60.0), ("evaluate prune/middle", 30.0)]


class Watch:
    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


def test_lines_come_at_start_and_end_and_every_ten_seconds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    watch = Watch()
    lines = Lines(Pace(watch))
    lines.plan(STEPS)
    lines.finish("test items", 0.0, skipped=True)
    lines.start("fine-tune prune/middle")
    for done in range(1, 31):
        watch.time += 1.0
        lines.advance(done, 60)
    lines.finish("fine-tune prune/middle", 30.0, skipped=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "[1/3] test items: done before",
        "[2/3] fine-tune prune/middle: run 1:30 left",
        "[2/3] fine-tune prune/middle: 17 %, step 0:50, run 1:20 left",
        "[2/3] fine-tune prune/middle: 33 %, step 0:40, run 1:10 left",
        "[2/3] fine-tune prune/middle: 50 %, step 0:30, run 1:00 left",
        "[2/3] fine-tune prune/middle: done in 0:30",
    ]


def test_what_is_left_follows_what_steps_took() -> None:
    watch = Watch()
    pace = Pace(watch)
    pace.plan([("a", 100.0), ("b", 100.0)])
    assert pace.left == 200.0
    pace.start()
    watch.time += 200.0
    pace.finish(200.0, skipped=False)
    assert 150.0 < pace.left < 200.0


@given(
    estimates=st.lists(st.floats(0, 1e6), max_size=6),
    events=st.lists(
        st.tuples(st.sampled_from("saf"), st.integers(0, 9), st.integers(0, 9), st.floats(0, 1e4)),
        max_size=30,
    ),
)
def test_what_is_left_is_never_negative(
    estimates: list[float], events: list[tuple[str, int, int, float]]
) -> None:
    watch = Watch()
    pace = Pace(watch)
    pace.plan([(str(place), seconds) for place, seconds in enumerate(estimates)])
    for kind, done, total, passed in events:
        watch.time += passed
        match kind:
            case "s":
                pace.start()
            case "a":
                pace.advance(done, total)
            case _:
                pace.finish(passed, skipped=done % 2 == 0)
        assert pace.left >= 0
        assert pace.step_left >= 0


def test_bars_show_the_run_and_the_step() -> None:
    stream = io.StringIO()
    with bars(
        Console(file=stream, force_terminal=True, width=100, color_system=None), Pace(Watch())
    ) as shown:
        shown.plan(STEPS)
        shown.finish("test items", 0.0, skipped=True)
        shown.start("fine-tune [x]")
        shown.advance(30, 60)
        shown._display.refresh()
        shown.finish("fine-tune [x]", 43.0, skipped=False)
    text = stream.getvalue()
    for part in (
        "test items: done before",
        "run 1/3",
        "fine-tune [x]",
        "fine-tune [x]: done in 0:43",
        " left",
    ):
        assert part in text


def test_times_and_sizes_read_well() -> None:
    assert [clock(seconds) for seconds in (0.4, 59.6, 130, 3725)] == [
        "0:00",
        "1:00",
        "2:10",
        "1:02:05",
    ]
    assert [size(count) for count in (0, 812_000, 1.4e9)] == ["0 B", "812 kB", "1.4 GB"]
