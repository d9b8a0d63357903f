"""`pomona data`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cyclopts import App

from pomona.cli._cards import show_card, show_cards, working
from pomona.cli._options import Banding, Engine, Flag, Inputs, given
from pomona.cli._out import Format, Out
from pomona.cli.audit import app as audit
from pomona.cli.dedup import dedup, rates
from pomona.cli.scores import order, score

app = App(
    name="data",
    help="Find duplicates, score, prune, mix and audit data.",
    help_format="plaintext",
    result_action="return_value",
)
app.command(audit)
app.command(dedup)
app.command(rates)
app.command(score)
app.command(order)


@app.command
def prune(
    inputs: Inputs,
    /,
    *,
    out: Path,
    by: str,
    keep: float = 0.3,
    band: Literal["bottom", "middle", "top", "random"] = "bottom",
    rows: Banding | None = None,
    engine: Engine = "native",
    dry_run: Flag = False,
    format: Format = "human",
) -> None:
    """Keep the rows of one band of a score.

    Parameters
    ----------
    out
        File of what is kept.
    by
        Column of the score.
    keep
        Share that is kept.
    band
        bottom, middle or top of the score, or random: the control.
    dry_run
        Only count; write nothing.
    """
    from pomona.data import prune as select

    with working("pruning") as progress:
        card = select(
            inputs,
            out,
            by=by,
            keep=keep,
            band=band,
            engine=engine,
            dry_run=dry_run,
            progress=progress,
            **given(rows),
        )
    show_card(Out(format), card, out, dry_run)


@app.command
def sweep(
    inputs: Inputs,
    /,
    *,
    out: Path,
    by: str,
    keep: list[float] | None = None,
    bands: list[Literal["bottom", "middle", "top"]] | None = None,
    rows: Banding | None = None,
    engine: Engine = "native",
    dry_run: Flag = False,
    format: Format = "human",
) -> None:
    """Write every band at every share, each with its random control.

    Parameters
    ----------
    out
        Folder of the files.
    by
        Column of the score.
    keep
        Shares; 0.1, 0.3, 0.5 and 0.7 when left out.
    bands
        Bands; all three when left out.
    dry_run
        Only count; write nothing.
    """
    from pomona.data import sweep as select

    options = given(rows, keeps=keep, bands=bands)
    with working("pruning") as progress:
        cards = select(
            inputs, out, by=by, engine=engine, dry_run=dry_run, progress=progress, **options
        )
    show_cards(Out(format), cards)


@app.command
def mix(
    recipe: Path,
    /,
    *,
    out: Path,
    engine: Engine = "native",
    dry_run: Flag = False,
    format: Format = "human",
) -> None:
    """Write the rows of a training in their order: weights, temperature, and schedules over its
    progress.

    Parameters
    ----------
    recipe
        YAML file with inputs, schedule, total, size, column and seed.
    out
        File of the mixed rows.
    dry_run
        Only count; write nothing.
    """
    from pomona.data import mix as combine

    with working("mixing") as progress:
        card = combine(recipe, out, engine=engine, dry_run=dry_run, progress=progress)
    show_card(Out(format), card, out, dry_run)


@app.command
def templates(
    inputs: Inputs,
    /,
    *,
    out: Path,
    prompt: str,
    completion: str,
    reviews: str | None = None,
    min_reviews: int = 2,
    min_words: int = 3,
    threshold: float = 0.9,
    dry_run: Flag = False,
    format: Format = "human",
) -> None:
    """Keep instruction templates that are reviewed, say enough, and differ from one another.

    Parameters
    ----------
    out
        File of what is kept.
    prompt
        Column of the prompt.
    completion
        Column of the completion.
    reviews
        Column with the number of reviews.
    min_reviews
        Reviews a template needs.
    min_words
        Words a completion needs.
    threshold
        Jaccard similarity from which two templates are near-identical.
    dry_run
        Only count; write nothing.
    """
    from pomona.data.audit import prune_templates

    with working("pruning") as progress:
        card = prune_templates(
            inputs,
            out,
            prompt=prompt,
            completion=completion,
            reviews=reviews,
            min_reviews=min_reviews,
            min_words=min_words,
            threshold=threshold,
            dry_run=dry_run,
            progress=progress,
        )
    show_card(Out(format), card, out, dry_run)


@app.command
def value(*, unique: float, epochs: list[float] | None = None, format: Format = "human") -> None:
    """Print what repeated data are worth by the law of Muennighoff et al. 2023.

    Parameters
    ----------
    unique
        Unique tokens.
    epochs
        Passes over them; 1, 2, 4, 8 and 16 when left out.
    """
    from pomona.data.value import effective_data

    rows = [
        {"epochs": e, "tokens": unique * e, "worth": unique * float(effective_data(e))}
        for e in epochs or (1, 2, 4, 8, 16)
    ]
    shown = [
        {"epochs": f"{r['epochs']:g}", "tokens": f"{r['tokens']:.3g}", "worth": f"{r['worth']:.3g}"}
        for r in rows
    ]
    Out(format).table(
        rows,
        shown,
        "fitted on C4 with models up to 9B parameters; the law never predicts harm from repetition",
    )
