"""`fit`: ratings of models by votes, with all that says how sure they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.arena.models import made_by
from pomona.arena.ratings.bradley_terry import (
    ELO,
    MEAN,
    TIES,
    Ties,
    counts_of,
    points,
    rated,
    sums,
)
from pomona.arena.ratings.clusters import UNITS, clustered
from pomona.arena.ratings.fitted import NONE, Fitted, Settings
from pomona.arena.ratings.intervals import critical, ranks, simultaneous, standard_draws
from pomona.arena.ratings.resampling import refit, resampled
from pomona.arena.ratings.results import RatedModel, Ratings, StyleEffect
from pomona.arena.ratings.style import Styled, covariates, plain_counts, styled
from pomona.arena.vote_columns import VoteColumns
from pomona.arena.votes import Votes, read_votes
from pomona.errors import PomonaError, are, nearest, quantity
from pomona.records import Records, Where

_DRAWS = 2000  # of ranks, where there are no resamples
_RESAMPLES = 100  # at least, where there are any
_MOST = 10_000
Floats = NDArray[np.float64]


def fit(
    votes: Where | Records | Votes,
    columns: VoteColumns | None = None,
    *,
    ties: Ties = "davidson",
    cluster: str | None = None,
    level: float = 0.95,
    anchor: str | tuple[str, float] | None = None,
    style: Sequence[str] = (),
    by: str | None = None,
    models: Where | None = None,
    resamples: int = 0,
    seed: int = 0,
    page: Path | None = None,
) -> Ratings:
    """Rate models by votes on pairs of their answers: Bradley-Terry with ties, and intervals that
    know which votes hang together.

    Votes are rows of model_a, model_b and winner, counts of pairs, the JSON of Chatbot Arena, or
    the CSV of LLMFAO. Ratings are points, 400 to a factor of ten in the odds, with a mean of 1000.

    Args:
        votes: Table of votes (CSV, JSONL, JSON, Parquet).
        columns: Which columns hold what.
        ties: What a tie is: davidson and rao_kupper fit how often there is one, half takes it for
            half a win of each, drop leaves ties out.
        cluster: What hangs together: item, prompt, voter, another column, or none, which takes each
            vote for independent; the finest that is repeated, unless given.
        level: Share of intervals that hold.
        anchor: Model whose rating is given, as MODEL=POINTS; the others keep their distances.
        style: Also rate with these held equal: length, markdown (headers, lists, bold), or any NAME
            of which there are columns NAME_a and NAME_b.
        by: Column of categories, each of which is rated too.
        models: Table of models: model, organisation, licence.
        resamples: Resamples of votes or clusters for bootstrap intervals; 0 for none.
        seed: Seed of draws and resamples.
        page: Folder for a page with pictures.

    Raises:
        PomonaError: a table cannot be read; no chain of votes connects all models; the votes are
            too few; or an option does not fit the votes.
    """
    _check_options(ties, level, resamples, style)
    if page is not None:
        from pomona.arena.ratings.page import check_page

        check_page(page, votes, models)
    settings = Settings(ties, cluster, level, _anchor(anchor), tuple(style), resamples, seed)
    read_in = read_votes(votes, columns, keep=_kept(settings, by))
    facts = made_by(models)
    result = _rated(Fitted(read_in, settings), facts, None)
    if by is not None:
        categories, left = _categories(read_in, by, settings, facts)
        result = replace(result, categories=categories, notes=[*result.notes, *left])
    if page is not None:
        from pomona.arena.ratings.page import write_page

        write_page(result, page)
    return result


def _check_options(ties: str, level: float, resamples: int, style: Sequence[str]) -> None:
    if ties not in TIES:
        raise PomonaError(f'"{ties}" is unknown', where="ties", remedy=nearest(ties, TIES))
    if not 0 < level < 1:
        raise PomonaError(f"{level} is no share", where="level", remedy="give 0.95 or so")
    if resamples != 0 and not _RESAMPLES <= resamples <= _MOST:
        remedy = f"give {_RESAMPLES} to {_MOST:,}, or 0 for none"
        raise PomonaError(f"{resamples} is out of range", where="resamples", remedy=remedy)
    if len(set(style)) < len(style):
        raise PomonaError("a covariate stands twice", where="style", remedy="name each once")


def _anchor(anchor: str | tuple[str, float] | None) -> tuple[str, float] | None:
    """A model and its rating, of a text MODEL=POINTS."""
    if not isinstance(anchor, str):
        return anchor
    model, equals, told = anchor.rpartition("=")
    try:
        rating = float(told)
    except ValueError:
        rating = math.nan
    if not equals or not model or not math.isfinite(rating):
        raise PomonaError(f'"{anchor}" is no anchor', where="anchor", remedy="give MODEL=POINTS")
    return model, rating


def _kept(settings: Settings, by: str | None) -> list[str]:
    """The columns that are needed."""
    wanted = [*UNITS, *([by] if by else [])]
    if settings.cluster not in (None, NONE):
        wanted += str(settings.cluster).split("+")
    for name in settings.style:
        parts = ("length", "headers", "lists", "bold") if name == "markdown" else (name,)
        wanted += [f"{part}_{side}" for part in (*parts, "completion") for side in "ab"]
    return wanted


def _categories(
    votes: Votes, by: str, settings: Settings, facts: Mapping[str, Any]
) -> tuple[dict[str, Ratings], list[str]]:
    """The ratings of each category, that of most votes first, and why others have none."""
    codes, labels = votes.codes(by)
    found: dict[str, Ratings] = {}
    notes = []
    for code in np.argsort(-np.bincount(codes[codes >= 0], minlength=len(labels)), kind="stable"):
        some = votes.take(codes == code)
        name = labels[code]
        try:
            found[name] = _rated(Fitted(some, settings), facts, name)
        except PomonaError as error:
            notes.append(f'category "{name}" is not rated: {error.message}')
    return found, notes


def _rated(fitted: Fitted, facts: Mapping[str, Any], category: str | None) -> Ratings:
    settings, solution = fitted.settings, fitted.solution
    order = np.lexsort((np.arange(len(fitted.names)), -solution.strengths))
    drawn, style = _resampled(fitted), _styled(fitted)
    columns = [_bounds(fitted), _bootstrap(fitted, drawn), _at_equal_style(fitted, style)]
    counted = _counted(fitted.all)
    rows = []
    for place, index in enumerate(order):
        below = order[place + 1] if place + 1 < len(order) else None
        row = {name: column[index] for one in columns for name, column in one.items()}
        row |= {**_lead(fitted, index, below), **counted[fitted.names[index]]}
        rows.append({"model": fitted.names[index], **row})
    nothing = dict.fromkeys(rows[0])
    rows += [
        {**nothing, "model": model, **counted[model], "why": told}
        for model, told in sorted(fitted.unrated.items())
    ]
    return Ratings(
        rows=[RatedModel(**row, **facts.get(row["model"], {}), category=category) for row in rows],
        ties=settings.ties,
        tie=None if solution.tie is None else float(np.exp(solution.tie)),
        n=fitted.votes.n,
        cluster=None if fitted.errors is None else fitted.errors.by,
        clusterings=fitted.clusterings(),
        style=_effects(style, settings.level),
        stability=_stability(fitted, drawn, order),
        categories={},
        converged=solution.converged,
        grad_norm=solution.gradient_norm,
        level=settings.level,
        notes=fitted.notes,
        signature=_signature(fitted, category),
        seed=settings.seed,
        names=fitted.names,
        counts=fitted.counts,
        solution=solution,
        errors=fitted.errors,
    )


def _bounds(fitted: Fitted) -> dict[str, list[Any]]:
    """Ratings [k] and how sure they are."""
    ratings, found = fitted.ratings, fitted.errors
    names = ("std_error", "ci_low", "ci_high", "simultaneous_low", "simultaneous_high")
    names = (*names, "rank", "rank_low", "rank_high")
    if found is None:
        return {"rating": ratings.tolist()} | {name: [None] * len(ratings) for name in names}
    standard = found.standard * ELO
    half = critical(found.degrees, fitted.settings.level) * standard
    wide = simultaneous(found, fitted.settings.level, fitted.settings.seed) * standard
    lone = [fitted.names[index] for index in np.flatnonzero(~np.isfinite(half))]
    if lone:
        fitted.notes.append(
            f"of {', '.join(lone[:3])}{' and others' if len(lone) > 3 else ''} all votes hang "
            "together: how sure their ratings are cannot be told"
        )
    apart = fitted.solution.strengths * ELO  # an anchor far off would round distances away
    rank, _ = ranks(apart - half, apart + half)
    best, worst = ranks(apart - wide, apart + wide)
    ends = (ratings - half, ratings + half, ratings - wide, ratings + wide)
    columns = (ratings, standard, *ends, rank, best, worst)
    return {
        name: [one if np.isfinite(one) else None for one in column.tolist()]
        for name, column in zip(("rating", *names), columns, strict=True)
    }


def _lead(fitted: Fitted, index: int, below: int | None) -> dict[str, float | None]:
    """How far a model is above the next one."""
    if below is None:
        return {"lead": None, "lead_low": None, "lead_high": None}
    lead = float(fitted.solution.strengths[index] - fitted.solution.strengths[below]) * ELO
    half = np.inf
    if (found := fitted.errors) is not None:
        degrees = float(min(found.degrees[index], found.degrees[below]))
        half = float(critical(degrees, fitted.settings.level)) * ELO
        half *= float(found.of_difference(index, below))
    ends = (lead - half, lead + half) if np.isfinite(half) else (None, None)
    return {"lead": lead, "lead_low": ends[0], "lead_high": ends[1]}


def _resampled(fitted: Fitted) -> Floats | None:
    """Strengths in resamples, [k, resamples], nan where they are infinite."""
    settings = fitted.settings
    if not settings.resamples:
        return None
    kinds = fitted.kinds or [clustered(fitted.votes, None)]
    if len(kinds) > 1:
        fitted.notes.append(f"resamples are of {kinds[0].by}s, and know nothing of {kinds[1].by}s")
    drawn = resampled(kinds[0], fitted.counts.outcomes.size, settings.resamples, settings.seed)
    found = refit(fitted.counts, fitted.solution, drawn)[0]
    if lost := int(np.isnan(found).any(0).sum()):
        fitted.notes.append(
            f"in {lost} of {settings.resamples} resamples some model won or lost all of its votes, "
            "and has no rating"
        )
    return found


def _bootstrap(fitted: Fitted, drawn: Floats | None) -> dict[str, list[Any]]:
    """Percentile intervals of resamples, None where most have no rating."""
    if drawn is None:
        return {}
    tail = (1 - fitted.settings.level) / 2
    shift = (fitted.ratings - fitted.solution.strengths * ELO)[:, None]
    ends = [
        np.quantile(one[np.isfinite(one)], [tail, 1 - tail]).tolist()
        if np.isfinite(one).mean() > 0.5
        else [None, None]
        for one in drawn * ELO + shift
    ]
    return {
        "bootstrap_low": [low for low, _ in ends],
        "bootstrap_high": [high for _, high in ends],
    }


def _stability(fitted: Fitted, drawn: Floats | None, order: NDArray[np.intp]) -> Floats:
    k = len(order)
    if drawn is None:
        if fitted.errors is None:
            return np.full((k, k), np.nan)
        made = standard_draws(fitted.errors, _DRAWS, fitted.settings.seed)
        drawn = (made * fitted.errors.standard + fitted.solution.strengths).T
    drawn = drawn[:, np.isfinite(drawn).all(0)]
    if not drawn.shape[1]:
        return np.full((k, k), np.nan)
    place = np.argsort(np.argsort(-drawn[order], axis=0, kind="stable"), axis=0)
    found = np.bincount((np.arange(k)[:, None] * k + place).ravel(), minlength=k * k)
    return found.reshape(k, k) / drawn.shape[1]


def _styled(fitted: Fitted) -> Styled | None:
    votes, settings = fitted.votes, fitted.settings
    if not settings.style:
        return None
    style = covariates(votes, settings.style)
    some, counts = plain_counts(votes, style)
    if some.models != fitted.names or not rated(counts, settings.ties).all():
        message = "of some models no votes that could tell have the style of both answers"
        remedy = "give completions of all models, or leave out --style"
        raise PomonaError(message, where=votes.where, remedy=remedy)
    if some.n < votes.n:
        fitted.notes.append(
            f"{quantity(votes.n - some.n, 'vote')}"
            f" without the style of both answers {are(votes.n - some.n)} not counted where "
            "style is held equal"
        )
    return styled(some, style, settings.ties, fitted.by[0] if fitted.by else None)


def _at_equal_style(fitted: Fitted, style: Styled | None) -> dict[str, list[Any]]:
    if style is None:
        return {}
    ratings = points(style.solution.strengths, fitted.anchor)
    names = ("style_low", "style_high", "style_rank")
    if (found := style.errors) is None:
        nothing: list[Any] = [None] * len(ratings)
        return {"style_rating": ratings.tolist()} | dict.fromkeys(names, nothing)
    half = critical(found.degrees, fitted.settings.level) * found.standard * ELO
    rank, _ = ranks(ratings - half, ratings + half)
    columns = (ratings, ratings - half, ratings + half, rank)
    return {
        name: [one if np.isfinite(one) else None for one in column.tolist()]
        for name, column in zip(("style_rating", *names), columns, strict=True)
    }


def _effects(style: Styled | None, level: float) -> list[StyleEffect]:
    if style is None:
        return []
    half = np.full(len(style.names), np.nan)
    if style.errors is not None and (standard := style.coefficient_errors) is not None:
        half = float(critical(float(style.errors.units - 1), level)) * standard
    ends = np.stack([style.coefficients - half, style.coefficients + half], 1) * ELO
    return [
        StyleEffect(name, float(effect) * ELO, *(None if np.isnan(one) else one for one in pair))
        for name, effect, pair in zip(style.names, style.coefficients, ends.tolist(), strict=True)
    ]


def _signature(fitted: Fitted, category: str | None) -> str:
    settings, anchor = fitted.settings, f"mean={MEAN:g}"
    if fitted.anchor is not None:
        anchor = f"{fitted.names[fitted.anchor[0]]}={fitted.anchor[1]:g}"
    by = f"cluster-{'+'.join(fitted.by)}" if fitted.by else "iid"
    parts = [
        "bt",
        f"ties:{settings.ties}",
        f"ci:{'none' if fitted.errors is None else by}",
        f"n:{fitted.votes.n}",
        f"anchor:{anchor}",
        *([f"style:{'+'.join(settings.style)}"] if settings.style else []),
        *([f"category:{category}"] if category is not None else []),
        *([f"boot:{settings.resamples}"] if settings.resamples else []),
        f"seed:{settings.seed}",
        f"v:{version('pomona')}",
    ]
    return "|".join(parts)


def _counted(votes: Votes) -> dict[str, dict[str, int]]:
    """Votes, wins, losses and ties of each model."""
    counts, k = counts_of(votes), len(votes.models)
    (won, lost, tied), first, second = counts.outcomes.T, counts.first, counts.second
    found = {
        "wins": sums(first, won, k) + sums(second, lost, k),
        "losses": sums(first, lost, k) + sums(second, won, k),
        "ties": sums(first, tied, k) + sums(second, tied, k),
    }
    found["votes"] = found["wins"] + found["losses"] + found["ties"]
    return {
        model: {name: int(column[index]) for name, column in found.items()}
        for index, model in enumerate(votes.models)
    }
