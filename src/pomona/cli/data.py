"""`pomona data`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import App

from pomona.cli.command import Command, Options
from pomona.cli.output import Out

if TYPE_CHECKING:
    from pomona.data.audit import Report


def _show_worth(show: Out, rows: list[dict[str, float]], _: Mapping[str, Any]) -> None:
    shown = [
        {"epochs": f"{r['epochs']:g}", "tokens": f"{r['tokens']:.3g}", "worth": f"{r['worth']:.3g}"}
        for r in rows
    ]
    show.table(
        rows,
        shown,
        "fitted on C4 with models up to 9B parameters; the law never predicts harm from repetition",
    )


def _show_report(show: Out, summed: Report, given: Mapping[str, Any]) -> None:
    if show.format == "json":
        show.json(asdict(summed))
        return
    rows = [row for row in summed.table().to_pylist() if row["code"] == "C"]
    shown = [
        {
            "group": r["group"],
            "correct": f"{r['share']:.1%} [{r['low']:.1%}, {r['high']:.1%}]",
            "rows": r["n"],
        }
        for r in rows
    ]
    show.table(
        rows,
        shown,
        (
            f"{summed.labelled} of {summed.rows} rows labelled by people, the others pre-labelled "
            "by rules"
        ),
    )
    for name, count in summed.counts.items():
        show.line(f"{name}: {count}")
    show.line(given["folder"] / "report.html")


app = App(name="data")
_AUDIT = App(name="audit", help="Sample rows per language, label them, and report.")
app.command(_AUDIT)
for _command in (
    Command("pomona.data:filter", "filtering"),
    Command("pomona.data:prune", "pruning"),
    Command("pomona.data:sweep", "pruning", Options(names={"folder": "out", "keeps": "keep"})),
    Command(
        "pomona.data:mix",
        "mixing",
        Options(
            names={"inputs": "recipe"},
            hidden="schedule total size column seed",
            kinds={"recipe": Path},
            tables="*",
        ),
    ),
    Command(
        "pomona.data:dedup",
        "removing duplicates",
        Options(
            kinds={"against": list[str] | None, "model": str, "tokenizer": str | None},
            tables="inputs against",
            defaults=False,
            groups={
                "Of minhash and exact": "n_bands rows_per_band shingle shingle_size "
                "edit_similarity target_size against inside strike against_column pairs index"
            },
            more={
                "": ("pomona.data.duplicates:dedup_semantic", "memory"),
                "Of substring": (
                    "pomona.data.duplicates:dedup_substring",
                    "unit min_length tokenizer empty",
                ),
                "Of semantic": (
                    "pomona.data.duplicates:dedup_semantic",
                    "model clusters device",
                ),
            },
        ),
    ),
    Command("pomona.data:score", "scoring", Options(hidden="memory memorize")),
    Command("pomona.data.scores:order", "scoring", Options(hidden="memory")),
):
    app.command(_command)
app.command(Command("pomona.data.audit:prune_templates", "pruning"), name="templates")
app.command(
    Command(
        "pomona.data:rates",
        "comparing",
        Options(
            hidden="n_bands rows_per_band shingle shingle_size edit_similarity seed",
            kinds={"train": list[str], "valid": list[str]},
            tables="train valid",
        ),
    ),
)
app.command(
    Command("pomona.data:repetition_worth", None, Options(positional=0), _show_worth), name="value"
)
_AUDIT.command(
    Command(
        "pomona.data.audit:sample_audit",
        "sampling",
        Options(names={"folder": "out"}, kinds={"language_id": Literal["script", "py3langid"]}),
    ),
    name="sample",
)
_AUDIT.command(
    Command("pomona.data.audit:serve_labels", options=Options(hidden="host format")),
    name="page",
)
_AUDIT.command(
    Command("pomona.data.audit:audit_report", show=_show_report),
    name="report",
)
