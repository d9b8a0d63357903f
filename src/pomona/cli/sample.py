"""`pomona sample`."""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from pomona.cli.command import Flag, Inputs, given
from pomona.cli.contexts import Surroundings
from pomona.cli.errors import tell
from pomona.cli.output import Format, Out
from pomona.cli.progress import working

if TYPE_CHECKING:
    from pomona.records import Card


@Parameter(name="*", group="What is asked")
@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a row becomes a request."""

    prompt: str | None = None
    """Template with {COLUMN} in it; {prompt} when left out and there is no column messages."""
    messages: str | None = None
    """Column of messages, instead of a prompt."""
    system: str | None = None
    """System message put before."""
    raw: Flag = False
    """Send the prompt as it is, without a chat template."""
    max_tokens: int = 512
    """Most tokens of an answer."""


@Parameter(name="*", group="Details of the strategy")
@dataclass(frozen=True, kw_only=True)
class Choosing:
    """What a strategy takes that its name does not say."""

    reward: str | None = None
    """best: mean, sum, MODULE:FUNCTION or http://HOST/PATH."""
    extract: str | None = None
    """vote: answer, number, boxed, text, regex:PATTERN or MODULE:FUNCTION."""
    language: str | None = None
    """xmbr: language of the further evidence."""


@Parameter(name="*", group="What pools are measured against")
@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What the pool holds, and what the choice makes of it."""

    reference: str | None = None
    """Column of references."""
    group: str | None = None
    """Column by which pools are shown."""
    metric: str = "chrf"
    """chrf, chrf++ or exact_match."""


@Parameter(name="*", group="Hard limits, of all rows together")
@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where the work ends, with everything kept that was paid for."""

    budget_tokens: int | None = None
    """Prompt and answer tokens."""
    budget_flops: float | None = None
    """Floating-point operations."""
    budget_money: float | None = None
    """Money; needs --price."""
    budget_seconds: float | None = None
    """Time."""


@Parameter(name="*", group="How models are called")
@dataclass(frozen=True, kw_only=True)
class Calling:
    """What opening a model takes."""

    price: Annotated[str | None, Parameter(allow_leading_hyphen=False)] = None
    """Money for a million prompt tokens and a million answer tokens, such as 0.15,0.60."""
    tokenizer: str | None = None
    """Folder or tokenizer.json to count a server's tokens with."""
    threads: int = 1
    """Processor threads of models in this process."""
    timeout: float = 120.0
    """Seconds without a sign of life from a server."""


app = App(
    name="sample",
    help="Answer every row of a table: several answers each, and a choice among them.",
    help_format="plaintext",
    result_action="return_value",
)


@app.command
def index(
    inputs: Inputs,
    /,
    *,
    out: Path,
    column: str = "text",
    source: str | None = None,
    embed: str | None = None,
    longest: int = 1200,
) -> None:
    """Index texts, for answers that look things up (--retrieve).

    Parameters
    ----------
    out
        Folder of the index.
    column
        Column of the text.
    source
        Column that says where a text is from, such as its title; shown and searched too.
    embed
        URI of a model whose embeddings are searched beside the words.
    longest
        Most characters of a passage.
    """
    from pomona.sample.context import Index

    with working("indexing") as progress:
        built = Index.build(
            inputs, column, out=out, source=source, embed=embed, longest=longest, progress=progress
        )
    Out("human").line(f"{len(built):,} passages in {out}")


@app.command
def datastore(inputs: Inputs, /, *, out: Path, model: str, column: str = "text") -> None:
    """Keep what a model's network sees in texts of one kind, to lead answers towards or away from
    it (--steer-to, --steer-from).

    Parameters
    ----------
    out
        The file to write (safetensors).
    model
        URI of the checkpoint whose answers will be led: ui-s, hf:PATH_OR_ID.
    column
        Column of the text, as the model reads it: with its prompt, where it has one.
    """
    from pomona.sample.context import build_datastore

    built = build_datastore(inputs, column, out=out, model=model)
    Out("human").line(f"{len(built.tokens):,} tokens in {out}")


@app.default
def sample(
    inputs: Inputs,
    /,
    *,
    out: Path,
    model: list[str],
    strategy: str = "hedged5-mbr",
    judge: str | None = None,
    choosing: Choosing | None = None,
    asking: Asking | None = None,
    measuring: Measuring | None = None,
    surroundings: Surroundings | None = None,
    think: Flag = False,
    store: Path | None = None,
    limits: Limits | None = None,
    calling: Calling | None = None,
    concurrency: int = 8,
    seed: int = 0,
    dry_run: Flag = False,
    format: Format = "human",
) -> int:
    """Answer every row of a table: several answers each, and a choice among them.

    Everything generated is kept at once beside OUT; the same command goes on after an interruption
    and pays nothing twice. The exit code is 1 when a budget ended or a model failed before all rows
    had an answer.

    Parameters
    ----------
    out
        File of the rows with their answers; the card is written beside it.
    model
        URI of a model: ui-s, smollm2, hf:PATH_OR_ID, gguf:PATH or http://HOST/v1#NAME. Given
        several times, the models share each pool.
    strategy
        Such as greedy, hedged5-mbr, hedged5-chops, sample16-vote-stop0.6, ladder5-best-t1.2.
    judge
        URI of the model that judges; the first model when left out.
    think
        Ask for steps before the answer; they are taken off it.
    store
        SQLite file of everything generated; OUT.answers.db when left out.
    concurrency
        Rows under way at once.
    seed
        Seed.
    dry_run
        Only say what it would cost at most; write nothing.
    """
    from pomona.answers import Budget
    from pomona.errors import PomonaError
    from pomona.sample import answer_all
    from pomona.sample.context import Thought

    limits, calling = limits or Limits(), calling or Calling()
    if limits.budget_money is not None and calling.price is None:
        remedy = "give --price PROMPT,ANSWER for a million tokens"
        raise PomonaError("a budget of money needs a price", where="--budget-money", remedy=remedy)
    settings = {**asdict(calling), "price": _price(calling.price)}
    with (surroundings or Surroundings()).contexts() as levers, working("answering") as progress:
        card = answer_all(
            inputs,
            out,
            model=model,
            strategy=given(choosing, name=strategy),
            judge=judge,
            context=[*levers.values(), *([Thought()] if think else ())],
            store=store,
            budget=Budget(*astuple(limits)),
            concurrency=concurrency,
            seed=seed,
            settings=settings,
            dry_run=dry_run,
            progress=progress,
            **given(asking, measuring),
        )
    _show(Out(format), card, out, dry_run)
    return 0 if dry_run or card.details["answered"] == card.rows_in else _told(card)


def _price(given: str | None) -> tuple[float, float] | None:
    from pomona.errors import PomonaError

    if given is None:
        return None
    try:
        prompt, answer = (float(part) for part in given.split(","))
    except ValueError:
        raise PomonaError(
            f'"{given}" is no price',
            where="--price",
            remedy="write PROMPT,ANSWER for a million tokens: 0.15,0.60",
        ) from None
    return prompt, answer


def _show(show: Out, card: Card, out: Path, dry_run: bool) -> None:
    if show.format == "json":
        show.json({"out": None if dry_run else out, "signature": card.signature, **asdict(card)})
        return
    for name in ("at_most", "spent", "paid"):
        if name in card.details:
            show.line(f"{name.replace('_', ' ')}: {_costs(card.details[name])}")
    if dry_run and card.details["budget"]:
        show.line(
            f"the budget reaches at least {card.details['rows_within_budget']:,} of "
            f"{card.rows_in:,} rows"
        )
    if not dry_run:
        stopped = ", ".join(f"{count:,} {by}" for by, count in card.details["stopped_by"].items())
        show.line(
            f"answered: {card.details['answered']:,} of {card.rows_in:,} rows ({stopped or 'none'})"
        )
    if pools := card.details.get("pools"):
        show.table(
            pools, [_pool(row) for row in pools], "differences to greedy; intervals cover 95 %"
        )
    show.line(card.signature)
    show.line("nothing was written" if dry_run else out)


def _costs(costs: dict[str, Any]) -> str:
    parts = [
        f"{costs['prompt_tokens']:,} prompt tokens",
        f"{costs['completion_tokens']:,} answer tokens",
    ]
    parts += [f"{costs['flops']:.3g} FLOPs"] if costs["flops"] else []
    return ", ".join(parts + ([f"{costs['money']:.4g} in money"] if costs["money"] else []))


def _pool(row: dict[str, Any]) -> dict[str, Any]:
    """A row as people read it: each estimate with its interval."""
    shown: dict[str, Any] = {"group": row["group"], "n": row["n"]}
    if "greedy" in row:
        shown["greedy"] = f"{row['greedy']:.1f}"
        shown |= {
            name: f"{row[name]:+.1f} [{row[f'{name}_low']:+.1f}, {row[f'{name}_high']:+.1f}]"
            for name in ("chosen", "hope", "risk")
        }
    names = {"distinct": "distinct", "greedy_picked": "greedy picked"}
    return shown | {
        names[key]: f"{row[key]:.2f} [{row[f'{key}_low']:.2f}, {row[f'{key}_high']:.2f}]"
        for key in names
    }


def _told(card: Card) -> int:
    details = card.details
    for limit in details["budget"]:
        if count := details["stopped_by"].get(limit):
            tell(
                f"the budget of {limit} was spent: {count:,} rows have a smaller pool or no "
                "answer; raise it and run again to go on"
            )
    if details["failed"]:
        first = next(iter(details["errors"]))
        tell(f"{details['failed']:,} rows failed, such as: {first}; run again to try them again")
    return 1
