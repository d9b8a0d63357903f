"""`pomona data audit`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from cyclopts import App

from pomona.cli._cards import show_card, working
from pomona.cli._options import Engine, Flag, Inputs
from pomona.cli._out import Format, Out

app = App(
    name="audit",
    help="Sample rows per language, label them, and report.",
    help_format="plaintext",
    result_action="return_value",
)


@app.command
def sample(
    inputs: Inputs,
    /,
    *,
    out: Path,
    column: str = "text",
    english: str | None = None,
    by: str = "lang",
    n: int = 100,
    language_id: Literal["script", "py3langid"] = "script",
    seed: int = 0,
    engine: Engine = "native",
    dry_run: Flag = False,
    format: Format = "human",
) -> None:
    """Draw a blind sample, shuffled over all groups, for people to label.

    Parameters
    ----------
    out
        New folder of the audit.
    column
        Column of the text.
    english
        Column of the English source, for parallel data.
    by
        Column of the groups.
    n
        Rows per group.
    language_id
        How pre-labels tell the language: by script, or by the package py3langid.
    seed
        Seed of the sample.
    dry_run
        Only count; write nothing.
    """
    from pomona.data.audit import sample_audit

    with working("sampling") as progress:
        card = sample_audit(
            inputs,
            out,
            column=column,
            english=english,
            by=by,
            n=n,
            language_id=language_id,
            seed=seed,
            engine=engine,
            dry_run=dry_run,
            progress=progress,
        )
    show_card(Out(format), card, out, dry_run)


@app.command
def page(folder: Path, /, *, port: int = 0) -> None:
    """Serve a page on this machine where the sample is labelled with the keyboard; every label is
    saved at once.

    Parameters
    ----------
    folder
        Folder of the audit.
    port
        Port; a free one when left out.
    """
    from pomona.data.audit import serve_labels

    with serve_labels(folder, port=port) as server:
        Out("human").line(server.url)
        sys.stdout.flush()
        server.wait()


@app.command
def report(folder: Path, /, *, format: Format = "human") -> None:
    """Print the shares of correct and wrong rows, and write report.json and report.html.

    Parameters
    ----------
    folder
        Folder of the audit.
    """
    from dataclasses import asdict

    from pomona.data.audit import audit_report

    found, show = audit_report(folder), Out(format)
    if format == "json":
        show.json(asdict(found))
        return
    rows = [row for row in found.table().to_pylist() if row["code"] == "C"]
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
            f"{found.labelled} of {found.rows} rows labelled by people, the others pre-labelled "
            "by rules"
        ),
    )
    for name, count in found.counts.items():
        show.line(f"{name}: {count}")
    show.line(folder / "report.html")
