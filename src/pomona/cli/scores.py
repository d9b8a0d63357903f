"""`pomona data score` and `pomona data order`."""

from __future__ import annotations

from pathlib import Path

from pomona.cli._cards import show_card, working
from pomona.cli._options import Engine, Flag, Inputs, Reading, given
from pomona.cli._out import Format, Out


def score(
    inputs: Inputs,
    /,
    *,
    out: Path,
    scores: list[str] | None = None,
    models: list[str] | None = None,
    column: str = "text",
    prompt: str | None = None,
    completion: str | None = None,
    lang: str = "lang",
    group: str | None = None,
    packed: Flag = False,
    length_bins: int | None = None,
    reading: Reading | None = None,
    engine: Engine = "native",
    dry_run: Flag = False,
    format: Format = "human",
) -> None:
    """Write the rows with a column for each score.

    Parameters
    ----------
    out
        File of the scored rows.
    scores
        perplexity, el2n, memorization, vog, cat_var, cat_diff, length, mtld, language, or a score
        of another package.
    models
        URIs of the models that score; checkpoints from early to late for scores over time.
    column
        Column of the text.
    prompt
        Column or template of the prompt, when examples are pairs.
    completion
        Column or template of the completion, whose tokens alone are scored.
    lang
        Column of the language, for the score language.
    group
        Column within which vog is standardised.
    packed
        Score full contexts of texts end to end.
    length_bins
        Rank cat_var and cat_diff among rows of like length, in this many bins.
    dry_run
        Only count what there is to do.
    """
    from pomona.data import score as compute

    options = given(reading, scores=scores, models=models)
    with working("scoring") as progress:
        card = compute(
            inputs,
            out,
            column=column,
            prompt=prompt,
            completion=completion,
            lang=lang,
            group=group,
            packed=packed,
            length_bins=length_bins,
            engine=engine,
            dry_run=dry_run,
            progress=progress,
            **options,
        )
    show_card(Out(format), card, out, dry_run)


def order(
    inputs: Inputs,
    /,
    *,
    out: Path,
    models: list[str],
    prompt: str,
    completion: str,
    corrupt: str | None = None,
    group: str | None = None,
    n: int = 250,
    k: int = 20,
    reading: Reading | None = None,
    engine: Engine = "native",
    dry_run: Flag = False,
    format: Format = "human",
) -> None:
    """Say of each pair what it was learnt like: typical or atypical ones, or spoilt copies.

    Parameters
    ----------
    out
        File of the rows with their scores and the column "learnt".
    models
        URIs of two or more checkpoints of one training, from early to late.
    prompt
        Column or template of the prompt.
    completion
        Column of the completion.
    corrupt
        Column of the prompt whose letters are exchanged in spoilt copies; the only one when left
        out.
    group
        Column within which gradients are compared and completions exchanged, such as the language.
    n
        Probes of each kind.
    k
        Nearest probes that vote.
    dry_run
        Only count what there is to do.
    """
    from pomona.data.scores import order as classify

    with working("scoring") as progress:
        card = classify(
            inputs,
            out,
            models=models,
            prompt=prompt,
            completion=completion,
            corrupt=corrupt,
            group=group,
            n=n,
            k=k,
            engine=engine,
            dry_run=dry_run,
            progress=progress,
            **given(reading),
        )
    show_card(Out(format), card, out, dry_run)
