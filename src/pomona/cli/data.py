"""`pomona data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App

from pomona.cli._cards import show_card, show_cards, working
from pomona.cli._out import Format, Out
from pomona.cli.audit import app as audit
from pomona.cli.run import FLAG
from pomona.cli.scores import order, score

app = App(name="data", help="Find duplicates, score, prune, mix and audit data.", help_format="plaintext", result_action="return_value")
app.command(audit)
app.command(score)
app.command(order)

DryRun = Annotated[bool, FLAG]


def _given(**options: Any) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


@app.command
def dedup(
    inputs: list[str],
    /,
    *,
    out: Path,
    method: Literal["exact", "minhash", "substring", "semantic"] = "minhash",
    column: str = "text",
    threshold: float | None = None,
    n_bands: int | None = None,
    rows_per_band: int | None = None,
    shingle: Literal["auto", "word", "character"] | None = None,
    shingle_size: int | None = None,
    edit_similarity: float | None = None,
    keep: str | None = None,
    target_size: int | None = None,
    against: list[str] | None = None,
    pairs: Path | None = None,
    index: Path | None = None,
    engine: Literal["native", "ray"] | None = None,
    unit: Literal["word", "byte", "token"] | None = None,
    min_length: int | None = None,
    tokenizer: str | None = None,
    empty: Literal["keep", "drop"] | None = None,
    model: str | None = None,
    clusters: int | None = None,
    device: str | None = None,
    memory: str | None = None,
    work: Path | None = None,
    seed: int | None = None,
    dry_run: DryRun = False,
    format: Format = "human",
) -> None:
    """Keep one of every group of duplicates, and say why each of the others went.

    Parameters
    ----------
    inputs
        Files, globs, dataset folders or s3:// addresses.
    out
        File of what is kept; the card and the evidence are written beside it.
    method
        exact, minhash (near-duplicates), substring (strikes long spans that occur twice) or semantic (cosine of embeddings).
    column
        Column of the text.
    threshold
        Similarity from which two documents are duplicates: Jaccard for minhash (0.8), cosine for semantic (0.95).
    n_bands
        minhash: bands of the signature; from the threshold when left out.
    rows_per_band
        minhash: hashes in a band.
    shingle
        minhash: word or character shingles; auto decides for each document by its script.
    shingle_size
        minhash: words or characters in a shingle (5).
    edit_similarity
        minhash: pairs must also have this edit similarity on tokens.
    keep
        Which one stays. minhash, exact: first, longest or best:COLUMN. substring: none or first. semantic: far, near or first.
    target_size
        minhash, exact: then cut to this many rows.
    against
        minhash, exact: also remove what has a duplicate in these inputs.
    pairs
        minhash, exact: file of the evidence; OUT.pairs.parquet when left out.
    index
        minhash, exact: folder that remembers documents between runs.
    engine
        minhash, exact: native, or ray for a cluster.
    unit
        substring: word, byte or token.
    min_length
        substring: shortest span that is struck, in units (50).
    tokenizer
        substring: tokenizer of unit token.
    empty
        substring: keep or drop rows of which nothing is left.
    model
        semantic: model of the embeddings.
    clusters
        semantic: number of clusters.
    device
        semantic: cpu, cuda, ...
    memory
        substring, semantic: memory to stay within, such as 1GiB.
    work
        Folder of what a killed run continues from; beside OUT when left out.
    seed
        Seed.
    dry_run
        Only count; write nothing.
    format
        human or json.
    """
    from pomona.data import dedup as remove

    options = _given(
        threshold=threshold, n_bands=n_bands, rows_per_band=rows_per_band, shingle=shingle, shingle_size=shingle_size,
        edit_similarity=edit_similarity, keep=keep, target_size=target_size, against=against, pairs=pairs, index=index, engine=engine,
        unit=unit, min_length=min_length, tokenizer=tokenizer, empty=empty, model=model, clusters=clusters, device=device,
        memory=memory, work=work, seed=seed,
    )  # fmt: skip
    with working("removing duplicates") as progress:
        card = remove(inputs, out, method=method, column=column, dry_run=dry_run, progress=progress, **options)
    show_card(Out(format), card, out, dry_run)


@app.command
def rates(train: list[str], /, *, valid: list[str], column: str = "text", threshold: float = 0.8, format: Format = "human") -> None:
    """Print which share of train and of validation has near-duplicates where (Lee et al. 2022, table 2).

    Parameters
    ----------
    train
        Training files.
    valid
        Validation files.
    column
        Column of the text.
    threshold
        Jaccard similarity from which two documents are duplicates.
    format
        human or json.
    """
    from pomona.data import rates as count

    with working("comparing") as progress:
        found = count(train, valid, column=column, threshold=threshold, progress=progress)
    Out(format).table(found.rows())


@app.command
def prune(
    inputs: list[str],
    /,
    *,
    out: Path,
    by: str,
    keep: float = 0.3,
    band: Literal["bottom", "middle", "top", "random"] = "bottom",
    within: str | None = None,
    group: str | None = None,
    floor: int = 0,
    size: str = "rows",
    seed: int = 0,
    dry_run: DryRun = False,
    format: Format = "human",
) -> None:
    """Keep the rows of one band of a score.

    Parameters
    ----------
    inputs
        Files, globs, dataset folders or s3:// addresses.
    out
        File of what is kept.
    by
        Column of the score.
    keep
        Share that is kept.
    band
        bottom, middle or top of the score, or random: the control.
    within
        Column; take the band of each of its values.
    group
        Column whose values the floor protects, where the band is global.
    floor
        Rows of each group that stay whatever their score.
    size
        What the share is of: rows, bytes, or a column of sizes.
    seed
        Seed of the random band.
    dry_run
        Only count; write nothing.
    format
        human or json.
    """
    from pomona.data import prune as select

    with working("pruning") as progress:
        card = select(
            inputs, out, by=by, keep=keep, band=band, within=within, group=group, floor=floor, size=size, seed=seed, dry_run=dry_run,
            progress=progress,
        )  # fmt: skip
    show_card(Out(format), card, out, dry_run)


@app.command
def sweep(
    inputs: list[str],
    /,
    *,
    out: Path,
    by: str,
    keep: list[float] | None = None,
    bands: list[Literal["bottom", "middle", "top"]] | None = None,
    within: str | None = None,
    group: str | None = None,
    floor: int = 0,
    size: str = "rows",
    seed: int = 0,
    dry_run: DryRun = False,
    format: Format = "human",
) -> None:
    """Write every band at every share, each with its random control.

    Parameters
    ----------
    inputs
        Files, globs, dataset folders or s3:// addresses.
    out
        Folder of the files.
    by
        Column of the score.
    keep
        Shares; 0.1, 0.3, 0.5 and 0.7 when left out.
    bands
        Bands; all three when left out.
    within
        Column; take the band of each of its values.
    group
        Column whose values the floor protects, where the band is global.
    floor
        Rows of each group that stay whatever their score.
    size
        What the share is of: rows, bytes, or a column of sizes.
    seed
        Seed of the random bands.
    dry_run
        Only count; write nothing.
    format
        human or json.
    """
    from pomona.data import sweep as select

    options = _given(keeps=keep, bands=bands)
    with working("pruning") as progress:
        cards = select(
            inputs, out, by=by, within=within, group=group, floor=floor, size=size, seed=seed, dry_run=dry_run, progress=progress, **options
        )
    show_cards(Out(format), cards)


@app.command
def mix(recipe: Path, /, *, out: Path, dry_run: DryRun = False, format: Format = "human") -> None:
    """Write the rows of a training in their order: weights, temperature, and schedules over its progress.

    Parameters
    ----------
    recipe
        YAML file with inputs, schedule, total, size, column and seed.
    out
        File of the mixed rows.
    dry_run
        Only count; write nothing.
    format
        human or json.
    """
    from pomona.data import mix as combine

    with working("mixing") as progress:
        card = combine(recipe, out, dry_run=dry_run, progress=progress)
    show_card(Out(format), card, out, dry_run)


@app.command
def templates(
    inputs: list[str],
    /,
    *,
    out: Path,
    prompt: str,
    completion: str,
    reviews: str | None = None,
    min_reviews: int = 2,
    min_words: int = 3,
    threshold: float = 0.9,
    dry_run: DryRun = False,
    format: Format = "human",
) -> None:
    """Keep instruction templates that are reviewed, say enough, and differ from one another.

    Parameters
    ----------
    inputs
        Files, globs, dataset folders or s3:// addresses.
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
    format
        human or json.
    """
    from pomona.data.audit import prune_templates

    with working("pruning") as progress:
        card = prune_templates(
            inputs, out, prompt=prompt, completion=completion, reviews=reviews, min_reviews=min_reviews, min_words=min_words,
            threshold=threshold, dry_run=dry_run, progress=progress,
        )  # fmt: skip
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
    format
        human or json.
    """
    from pomona.data.value import effective_data

    rows = [{"epochs": e, "tokens": unique * e, "worth": unique * float(effective_data(e))} for e in epochs or (1, 2, 4, 8, 16)]
    shown = [{"epochs": f"{r['epochs']:g}", "tokens": f"{r['tokens']:.3g}", "worth": f"{r['worth']:.3g}"} for r in rows]
    Out(format).table(rows, shown, "fitted on C4 with models up to 9B parameters; the law never predicts harm from repetition")
