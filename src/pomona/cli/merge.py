"""`pomona merge`: a merge, an adapter, and merges by the dozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from pomona.cli.command import Command, Count, Options
from pomona.cli.output import Out
from pomona.errors import quantity
from pomona.pages import clock, flops, size

if TYPE_CHECKING:
    from pomona.merge import CombinedAdapter, Extraction, MergeResult, Transplant
    from pomona.merge.search import LeftOut, Matrix, Searched, SearchForecast, Swept

app = App(name="merge")


def _show_merge(show: Out, result: MergeResult, _: Mapping[str, Any]) -> None:
    if show.format == "json":
        show.json(result.document())
        return
    if result.values and not result.written:
        show.table(
            [*map(dict, result.values)], caption="what the recipe's parameters are, layer by layer"
        )
    methods = ", ".join(f"{count:,} {method}" for method, count in result.methods.items())
    show.line(
        f"{quantity(result.parameters, 'parameter')} in {quantity(result.tensors, 'tensor')}"
        f": {methods}"
    )
    free = "" if result.written else f", {size(result.free)} free"
    show.line(
        f"read {size(result.read)}; written {size(result.disk)}{free}; memory at most "
        f"{size(result.memory)}"
    )
    if result.found:
        show.line(f"{quantity(result.found, 'tensor was', 'tensors were')} finished before")
    for note in result.notes:
        show.line(note)
    if not result.written:
        show.line(f"files: {', '.join(result.files)}")
    show.line(result.signature)
    show.line(result.out if result.written else "nothing was written")


def _show_transplant(show: Out, told: Transplant, given: Mapping[str, Any]) -> None:
    if show.format == "json":
        show.json(told.document())
        return
    _show_merge(show, told.result, given)
    if told.before is not None and told.after is not None:
        show.line(
            f"{told.before:.4f} bits per byte before, {told.after:.4f} after, on {told.measured}"
        )


def _show_adapter(show: Out, result: Extraction, given: Mapping[str, Any]) -> None:
    out, dry_run = given["out"], given.get("dry_run", False)
    if show.format == "json":
        show.json({"out": None if dry_run else out, **asdict(result)})
        return
    show.table(
        [
            {"module": module.name, "rank": module.rank, "relative error": f"{module.error:.3f}"}
            for module in result.modules
        ]
    )
    show.line(
        f"{quantity(len(result.whole), 'module')} saved whole, "
        f"{quantity(result.unchanged, 'tensor')} unchanged, "
        f"{size(result.size)}"
    )
    for name in result.left:
        show.line(f"left out, though it changed: {name}")
    for note in result.notes:
        show.line(note)
    show.line("nothing was written" if dry_run else out)


def _show_combined(show: Out, result: CombinedAdapter, given: Mapping[str, Any]) -> None:
    out, dry_run = given["out"], given.get("dry_run", False)
    if show.format == "json":
        show.json({"out": None if dry_run else out, **asdict(result)})
        return
    show.table(
        [
            {"module": one.name, "rank": one.rank, "distance from the sum": f"{one.error:.3f}"}
            for one in result.modules
        ]
    )
    for note in result.notes:
        show.line(note)
    show.line(
        f"{quantity(len(result.whole), 'tensor as it was', 'tensors as they were')}"
        f", {size(result.size)}"
    )
    show.line("nothing was written" if dry_run else out)


def _show_sweep(show: Out, swept: Sequence[Swept], given: Mapping[str, Any]) -> None:
    show.table([{"folder": str(one.folder), **one.values} for one in swept])
    if given.get("dry_run") and show.format == "human":
        show.line("nothing was written")


def _show_left_out(show: Out, left_out: LeftOut, given: Mapping[str, Any]) -> None:
    if left_out.matrix is not None:
        _show_matrix(show, left_out.matrix, given["out"])
        return
    rows = [
        {"merge": name, "folder": str(left_out.folders[at]) if left_out.folders else None}
        for at, name in enumerate(left_out.recipes)
    ]
    show.table(rows)


def _show_forecast(show: Out, forecast: SearchForecast) -> None:
    if show.format == "json":
        show.json(asdict(forecast))
        return
    show.line(
        f"{forecast.method}: at most {forecast.trials} trials over {', '.join(forecast.free)}"
    )
    show.line(
        f"each merges {size(forecast.read)} in memory and scores {forecast.valid} validation "
        f"items; the best is tested on {forecast.test}"
    )
    show.line(
        f"about {flops(forecast.flops_per_trial)} FLOPs a trial, {flops(forecast.flops)} in all, "
        f"{clock(forecast.seconds)} on one core"
    )
    for note in forecast.notes:
        show.line(note)
    show.line("nothing was written")


def _show_search(show: Out, searched: Searched | SearchForecast, _: Mapping[str, Any]) -> None:
    from pomona.merge.search import Gain, SearchForecast, number

    if isinstance(searched, SearchForecast):
        _show_forecast(show, searched)
        return
    if show.format == "json":
        show.json({"out": searched.out, **searched.document()})
        return
    rows = [
        {
            "group": group,
            "against": name,
            searched.metric: number(one.value),
            "gain": str(Gain.of(one, searched.higher_is_better)),
            "items": one.n,
        }
        for name, groups in searched.contrasts.items()
        for group, one in groups.items()
    ]
    show.table(
        rows,
        caption=", ".join(
            f"{name} = {value:g}" for name, value in searched.optimum.best.values.items()
        ),
    )
    for note in searched.notes:
        show.line(note)
    show.line(searched.signature)
    show.line(searched.out)


def _show_matrix(show: Out, matrix: Matrix, out: Path) -> None:
    if show.format == "json":
        show.json(
            {
                "out": out,
                "signature": matrix.signature,
                "metric": matrix.metric,
                "matrix": matrix.rows(),
            }
        )
        return
    gains = matrix.gains()
    groups = next(iter(gains.values()))
    show.table(
        [
            {"group": group, **{expert: str(gains[expert][group]) for expert in gains}}
            for group in groups
        ],
        caption=f"what each expert brings, in {matrix.metric}; positive is better",
    )
    show.line(matrix.signature)
    show.line(out)


_ENGINE = {"": ("pomona.merge:merge", "threads memory shard_size")}
_KINDS = {"recipe": Path, "memory": str, "shard_size": str, "set": list[str] | None}
app.default(
    Command(
        "pomona.merge:merge",
        "merging",
        Options(
            positional=2,
            hidden="models",
            kinds=_KINDS,
            inverted={"report": ("no_report", "Do not measure how the models differ.")},
        ),
        _show_merge,
    )
)
app.command(
    Command(
        "pomona.merge:transplant_vocabulary",
        "transplanting",
        Options(
            positional=3,
            kinds={**_KINDS, "k": Count},
            inverted={"measure": ("no_measure", "Do not measure how well both predict a text.")},
        ),
        _show_transplant,
    ),
    name="transplant",
)
app.command(
    Command(
        "pomona.merge:build_moe",
        "building",
        Options(positional=2, hidden="models", kinds=_KINDS),
        _show_merge,
    ),
    name="moe",
)
app.command(
    Command(
        "pomona.merge:extract_adapter",
        "extracting",
        Options(
            positional=3,
            kinds={
                "finetuned": str,
                "base": str,
                "rank": Count,
                "energy": Annotated[float | None, Parameter(validator=Number(gt=0, lte=1))],
                "modules": Annotated[list[str], Parameter(consume_multiple=True)],
            },
            inverted={
                "whole": (
                    "adapter_only",
                    "Leave out embeddings, heads and norms, which are otherwise saved whole where "
                    "they changed.",
                )
            },
        ),
        _show_adapter,
    ),
    name="extract",
)
app.command(
    Command(
        "pomona.merge:combine_adapters",
        "combining",
        Options(
            kinds={
                "adapters": list[str],
                "weights": Annotated[list[float], Parameter(consume_multiple=True)],
                "rank": Count,
                "density": Annotated[float | None, Parameter(validator=Number(gt=0, lte=1))],
            }
        ),
        _show_combined,
    ),
    name="adapters",
)
app.command(
    Command(
        "pomona.merge.search:search_merge",
        "searching",
        Options(
            positional=2,
            hidden="models",
            kinds={**_KINDS, "trials": Count},
            tables="*",
            more=_ENGINE,
            instead={
                "dry_run": (
                    "pomona.merge.search:forecast",
                    "Only print the number of trials and what they would cost.",
                )
            },
        ),
        _show_search,
    ),
    name="search",
)
for _home, _tables, _show in (
    ("pomona.merge.search:sweep", "", _show_sweep),
    ("pomona.merge.search:leave_one_out", "*", _show_left_out),
):
    app.command(
        Command(
            _home,
            "merging",
            Options(
                positional=2,
                hidden="models",
                names={"values": "set"},
                kinds=_KINDS,
                more=_ENGINE,
                tables=_tables,
            ),
            _show,
        )
    )
