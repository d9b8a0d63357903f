"""`judge`: verdicts of a model, of a metric, or recorded ones, audited beside people's votes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Unpack

import numpy as np
import pyarrow as pa

from pomona._version import __version__
from pomona.answers import AskingOptions, ModelOrUri, answer_rows
from pomona.arena.judging.agreement import Sampling, of_family
from pomona.arena.judging.asking import (
    Flips,
    PairJudge,
    combined,
    metric_values,
    read_value,
)
from pomona.arena.judging.audit import audited
from pomona.arena.judging.pairs import Pairs, Verdicts, outcome_of, read_pairs, recorded
from pomona.arena.judging.prompting import JudgePrompt, asked_row, judge_prompt
from pomona.arena.judging.results import JudgeAudit
from pomona.arena.vote_columns import VoteColumns
from pomona.arena.votes import Votes
from pomona.errors import PomonaError
from pomona.places import check_outputs
from pomona.records import (
    Card,
    Records,
    Results,
    TableSource,
    Where,
    as_records,
    card_of,
    check_types,
    files_at,
    format_of,
    inputs_of,
)
from pomona.tasks import metric as metric_of
from pomona.workspace import stamp

_ORDERS = ("ab", "ba")
_COLUMNS = "model_a model_b winner judge item prompt order verdict error"
_SCHEMA = pa.schema([(name, pa.string()) for name in _COLUMNS.split()])


def judge(
    pairs: Where | Votes,
    *,
    judge: ModelOrUri | None = None,
    metric: str | None = None,
    verdicts: Where | Votes | None = None,
    out: str | Path | None = None,
    columns: VoteColumns | None = None,
    reference: str | None = None,
    band: float = 0.0,
    ask: JudgePrompt | None = None,
    flips: Flips = "tie",
    family: str | None = None,
    cluster: Literal["item", "prompt"] = "item",
    resamples: int = 1000,
    seed: int = 0,
    page: str | Path | None = None,
    **asking: Unpack[AskingOptions],
) -> JudgeAudit | Card:
    """Let a model judge pairs of answers, each in both orders, and say what its verdicts are worth
    beside people's votes.

    The table is one of votes with both answers; rows without a winner are pairs that nobody voted
    on. A metric of a task, or a table of verdicts that are there already, can stand in for the
    model. Everything a model says is kept at once beside OUT; the same command goes on after an
    interruption and pays nothing twice. The exit code is 1 when a budget ended or a model failed
    before all pairs were judged; a verdict that cannot be read is an error of that vote.

    A dry run gives the card of `pomona.answers.answer_rows`, which says what it would cost at most.

    Args:
        pairs: Table of votes as `arena fit` reads it: model_a, model_b and winner, and to be judged
            also prompt, completion_a and completion_b.
        judge: URI of the model that judges: ui-s, smollm2, hf:PATH, gguf:PATH or
            http://HOST/v1#NAME.
        metric: Metric that judges instead, by --reference: chrf, chrf++, bleu, ter, exact_match or
            MODULE:FUNCTION.
        verdicts: Table of recorded verdicts, in the form of votes, to audit instead.
        out: File of the verdicts, which `arena fit` reads; the card is written beside it.
        columns: Which columns hold what.
        reference: Column of references, for a metric.
        band: Differences of the metric up to this are ties.
        ask: How a model is asked; see `judge_prompt`.
        flips: What counts for a pair whose orders differ: tie, skip (no vote), or half (each order
            half a vote).
        family: Models whose names begin so are the judge's own; told by its URI when left out.
        cluster: What is resampled together: item or prompt.
        resamples: Resamples behind each interval.
        seed: Seed.
        page: Folder for a page with pictures.

    Raises:
        PomonaError: not one of judge, metric and verdicts is given, a table cannot be read, a
            column is missing, or an option is wrong. Nothing was asked.
        ResourceError: the last 5 requests all failed. The store keeps what was said.
    """
    who = _check(judge, metric, verdicts, reference, out, asking.get("dry_run", False))
    named = [one for one in (pairs, verdicts) if isinstance(one, str | Path)]
    read = [file for one in named for file in files_at(one)]
    outputs = {"--out": out, "the card": out and card_of(out), "the store": asking.get("store")}
    check_outputs({**outputs, "--page": page}, read, folders=["--page"])
    if page is not None:
        from pomona.arena.judging.page import check_page

        check_page(Path(page))
    found = read_pairs(pairs, columns, reference=reference, texts=who != "verdicts")
    sampling = Sampling(found.clusters(cluster), resamples, seed)
    told = replace(ask or judge_prompt(), seed=seed)
    if who == "model":
        made = _by_model(found, judge, PairJudge(told, flips), Path(str(out)), asking)
        if isinstance(made, Card):
            return made
    elif who == "metric":
        made = _by_metric(found, str(metric), band)
    else:
        made = _Judged(_named(verdicts), recorded(_given(verdicts), found, columns), {})
    if out is not None and who != "model":
        _write(made, found, flips, Path(out), read)
    signature = made.signature(who, flips=flips, cluster=cluster, resamples=resamples, seed=seed)
    own = family or (_family(made.name, found) if who == "model" else None)
    result = audited(found, made.verdicts, made.name, flips, sampling, own)
    result = replace(
        result, cluster=cluster, signature=signature, spent=made.spent,
        out=None if out is None else str(out),
    )  # fmt: skip
    if page is not None:
        from pomona.arena.judging.page import write_page

        write_page(result, Path(page))
    return result


@dataclass(frozen=True)
class _Judged:
    name: str
    verdicts: Verdicts
    about: Mapping[str, Any]
    spent: dict[str, Any] | None = None

    def signature(self, who: str, **rest: Any) -> str:
        """How the audit came about, in one line."""
        parts = {who: self.name, **self.about, **rest, "version": __version__}
        return "|".join(["arena judge", *(f"{name}:{value}" for name, value in parts.items())])


def _check(
    judge: Any, metric: Any, verdicts: Any, reference: Any, out: Any, dry_run: bool
) -> Literal["model", "metric", "verdicts"]:
    """Who judges. Raises PomonaError where options contradict each other or one is missing."""
    given = {"--judge": judge, "--metric": metric, "--verdicts": verdicts}
    named = [name for name, one in given.items() if one is not None]
    if len(named) != 1:
        told = " and ".join(named) if named else "nothing"
        remedy = "give one of --judge, --metric and --verdicts"
        raise PomonaError(f"{told} says who judges", where="arena judge", remedy=remedy)
    if (metric is None) != (reference is None):
        message = "a metric needs references" if metric else "references are for a metric"
        raise PomonaError(message, where="--reference", remedy="give both, or neither")
    if judge is not None and out is None:
        message = "what a model says is kept beside the verdicts"
        raise PomonaError(message, where="--out", remedy="name a file for them: --out FILE")
    if dry_run and judge is None:
        raise PomonaError(
            "nobody is asked, nothing is paid", where="--dry-run", remedy="leave it out"
        )
    return "model" if judge is not None else "metric" if metric is not None else "verdicts"


def _given(verdicts: Where | Votes | None) -> Where | Votes:
    assert verdicts is not None
    return verdicts


def _named(verdicts: Any) -> str:
    return Path(verdicts).name if isinstance(verdicts, str | Path) else "the table of verdicts"


def _family(uri: str, pairs: Pairs) -> str | None:
    """The letters with which the name of a model begins, where they begin any other's."""
    name = re.split(r"[/#:]", uri.rstrip("/"))[-1]
    found = re.match(r"[A-Za-z]{2,}", name)
    if found is None or not any(of_family(model, found[0]) for model in pairs.models):
        return None
    return found[0]


def _by_model(
    pairs: Pairs, model: Any, answerer: PairJudge, out: Path, asking: AskingOptions
) -> _Judged | Card:
    """The verdicts of a model, or for a dry run the card of what they would cost."""
    found: list[Verdicts] = []
    name = model if isinstance(model, str) else model.name

    def finish(rows: Records) -> pa.Table:
        found.append(_verdicts(rows, len(pairs)))
        return _table(pairs, found[0], name, answerer.flips)

    check_types(_SCHEMA, format_of(str(out))[0], str(out))
    prompt = answerer.prompt
    card = answer_rows(
        Records.of(TableSource(_rows(pairs), pairs.where)), out, answerer, model=model,
        prompt=prompt.template, max_tokens=prompt.max_tokens, seed=prompt.seed, finish=finish,
        **asking,
    )  # fmt: skip
    if asking.get("dry_run"):
        return card
    spent = {name: card.details[name] for name in ("spent", "paid")}
    read = "reasons" if prompt.explain else "free" if prompt.free else "held"
    return _Judged(name, found[0], {"identity": card.parameters["judge"], "verdict": read}, spent)


def _rows(pairs: Pairs) -> pa.Table:
    """What is asked of each pair in both orders, pair by pair."""
    assert pairs.prompts is not None and pairs.answers is not None
    rows = []
    for at, (prompt, told) in enumerate(zip(pairs.prompts, pairs.answers, strict=True)):
        for turned, shown in enumerate((told, told[::-1])):
            rows.append({"pair": at, "turned": turned, **asked_row(prompt, *shown)})
    return pa.Table.from_pylist(rows)


def _verdicts(rows: Records, size: int) -> Verdicts:
    """The verdicts in what a model said, and why some rows have none."""
    values = np.full((size, 2), np.nan)
    errors: list[list[str | None]] = [[None, None] for _ in range(size)]
    names = ("pair", "turned", "answer", "error", "stopped_by")
    for row in rows.select(*names).to_table().to_pylist():
        pair, turned = row["pair"], row["turned"]
        if row["error"] is not None:
            value, error = None, row["error"]
        elif row["answer"] is None:
            value, error = None, f"the budget of {row['stopped_by']} was spent"
        else:
            value, error = read_value(row["answer"])
        errors[pair][turned] = error
        if value is not None:
            values[pair, turned] = 1 - value if turned else value
    return Verdicts(values, errors)


def _by_metric(pairs: Pairs, name: str, band: float) -> _Judged:
    """The verdicts of a metric, which knows no order: the same in both."""
    if not 0 <= band < math.inf:
        remedy = "use 0 or a positive number, in units of the metric"
        raise PomonaError(f"is {band}", where="--band", remedy=remedy)
    metric = metric_of(name, reads="text")
    assert pairs.answers is not None and pairs.references is not None
    ours, theirs = ([pair[side] for pair in pairs.answers] for side in (0, 1))
    told = metric_values(ours, theirs, pairs.references, metric, band)
    values = np.array([np.nan if value is None else value for value in told])
    errors: list[list[str | None]] = [
        ["the metric is undefined" if value is None else None] * 2 for value in told
    ]
    verdicts = Verdicts(np.stack([values, values], 1), errors)
    about = {"band": band, "scores": metric.signature.replace("|", ",")}
    return _Judged(name, verdicts, about)


def _table(pairs: Pairs, verdicts: Verdicts, name: str, flips: Flips) -> pa.Table:
    """The verdicts as votes, a row an order in which a pair was judged or should have been."""
    rows: list[dict[str, Any]] = []
    once = verdicts.asked_once
    for at, told in enumerate(verdicts.values.tolist()):
        known = [None if math.isnan(value) else value for value in told]
        whole = combined(known[0], known[1], flips)
        for turned, value in enumerate(known):
            error = verdicts.errors[at][turned]
            if value is None and error is None:
                continue  # recorded verdicts need not have both orders
            counts = value if flips == "half" or once[at] else whole
            shown = (pairs.a[at], pairs.b[at])[:: -1 if turned else 1]
            said = [None if one is None else 1 - one if turned else one for one in (value, counts)]
            rows.append(
                {
                    "model_a": pairs.models[shown[0]],
                    "model_b": pairs.models[shown[1]],
                    "winner": outcome_of(said[1]) if value is not None else None,
                    "judge": name,
                    "item": pairs.items[at],
                    "prompt": None if pairs.prompts is None else pairs.prompts[at],
                    "order": _ORDERS[turned],
                    "verdict": outcome_of(said[0]),
                    "error": error,
                }
            )
    return pa.Table.from_pylist(rows, _SCHEMA)


def _write(made: _Judged, pairs: Pairs, flips: Flips, out: Path, read: list[str]) -> None:
    """Write verdicts that nobody was asked for, with their card."""
    table = _table(pairs, made.verdicts, made.name, flips)
    inputs = inputs_of((path, None) for path in read)
    parameters = {"judge": made.name, "flips": flips, **made.about}
    card = Card("arena judge", parameters, inputs, len(pairs), len(table))
    with Results({"out": out}, inputs=read, stamps=lambda: stamp(read)) as results:
        results.write("out", as_records(table))
        results.publish(card)
