"""`pomona scale`: what scale buys."""

from __future__ import annotations

from cyclopts import App

from pomona.cli.command import Command, Made, Options
from pomona.cli.compute import show_flops, show_thresholds
from pomona.cli.curves import show_decisions, show_inflection
from pomona.cli.laws import show_fit, show_plan
from pomona.cli.leaderboards import COLUMNS, show_frontier, show_growth, show_returns

_OF_FIT = (
    "form params tokens loss flops unique_tokens family learning_rate checkpoint cluster part "
    "every_run drop_highest delta above held_out resamples seed"
)
app = App(name="scale")
app.command(
    Command(
        "pomona.scale:fit", options=Options(kinds={"runs": list[str]}, tables="*"), show=show_fit
    )
)
app.command(
    Command(
        "pomona.scale:plan",
        options=Options(
            kinds={"runs": list[str]},
            tables="*",
            more={"Of the fit": ("pomona.scale:fit", _OF_FIT)},
        ),
        show=show_plan,
    )
)
app.command(
    Command(
        "pomona.scale:flops",
        options=Options(
            kinds={"model": str, "against": str},
            tables="",
            opened={"model": "pomona.recipe:planned_sizes"},
            made={
                "energy": Made(
                    "pomona.scale:efficiency",
                    {"Of energy": "device utilisation overhead flop_per_joule"},
                )
            },
        ),
        show=show_flops,
    )
)
app.command(Command("pomona.scale:thresholds", options=Options(tables=""), show=show_thresholds))
app.command(
    Command(
        "pomona.scale:frontier",
        options=Options(
            kinds={"table": str, "bases": str}, names={"dates": "until"}, made=COLUMNS, tables="*"
        ),
        show=show_frontier,
    )
)
app.command(
    Command(
        "pomona.scale:returns",
        options=Options(kinds={"table": str}, made=COLUMNS, tables="*"),
        show=show_returns,
    )
)
app.command(
    Command(
        "pomona.scale:growth",
        options=Options(kinds={"table": str}, made=COLUMNS, tables="*"),
        show=show_growth,
    )
)
app.command(
    Command(
        "pomona.scale:inflection",
        "fitting",
        Options(
            kinds={"inputs": list[str]},
            tables="*",
            opened={"inputs": "pomona.recipe:measured_at"},
        ),
        show_inflection,
    )
)
app.command(
    Command(
        "pomona.scale:decide",
        options=Options(
            kinds={"inputs": list[str], "metric": str},
            tables="*",
            opened={"inputs": "pomona.recipe:measured_at"},
        ),
        show=show_decisions,
    )
)
