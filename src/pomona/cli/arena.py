"""`pomona arena`: votes on pairs of answers, and what they are worth."""

from __future__ import annotations

from cyclopts import App

from pomona.cli.arena_audit import show_audit
from pomona.cli.arena_fit import COLUMNS, show_ratings
from pomona.cli.arena_judge import OF_JUDGE, show_judge
from pomona.cli.arena_prioritize import show_priorities, show_replay
from pomona.cli.arena_serve import show_serve
from pomona.cli.command import Command, Options

app = App(name="arena")
app.command(
    Command(
        "pomona.arena:pairs",
        options=Options(
            kinds={"inputs": list[str]}, tables="*", opened={"inputs": "pomona.recipe:sizes_at"}
        ),
    )
)
app.command(
    Command(
        "pomona.arena.annotating:serve",
        options=Options(kinds={"pairs": str, "rate": str}, tables="*", hidden="format"),
        show=show_serve,
    )
)
app.command(Command("pomona.arena.annotating:export", options=Options(positional=0, tables="")))
app.command(
    Command(
        "pomona.arena:fit",
        options=Options(
            kinds={"votes": str, "anchor": str, "models": str}, made=COLUMNS, tables="*"
        ),
        show=show_ratings,
    )
)
app.command(Command("pomona.arena:judge", "judging", OF_JUDGE, show_judge))
app.command(
    Command(
        "pomona.arena:audit",
        "auditing",
        Options(
            kinds={"votes": str, "models": str, "twins_given": list[str]},
            names={"twins_given": "twins"},
            made=COLUMNS,
            tables="*",
        ),
        show_audit,
    )
)

prioritized = App(name="prioritize")
prioritized.default(
    Command(
        "pomona.arena:prioritize",
        "choosing pairs",
        Options(
            positional=2, kinds={"pairs": str, "votes": str, "store": str}, made=COLUMNS, tables="*"
        ),
        show_priorities,
    )
)
prioritized.command(
    Command(
        "pomona.arena:replay",
        "replaying votes",
        Options(kinds={"votes": str}, made=COLUMNS, tables="*"),
        show_replay,
    )
)
app.command(prioritized)
