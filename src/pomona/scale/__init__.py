"""What scale buys: is bigger better here, and for how long has it been?

`runs` reads tables of training runs, and `laws` fits the loss to parameters and tokens: with bands,
held-out runs, every defensible choice beside the others, and a plan for a budget. `tables` asks
published tables: small models against larger ones, what a doubling buys, how fast sizes grow.
`compute` counts a model by its configuration: modules, equivalents, thresholds in laws, energy.
`curves` tells smooth curves from broken ones, and whether small sizes rank levers as large ones do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.scale.compute.energy import Efficiency as Efficiency, efficiency as efficiency
    from pomona.scale.compute.flops import flops as flops, thresholds as thresholds
    from pomona.scale.compute.results import (
        ModelFlops as ModelFlops,
        Planned as Planned,
        SizesFlops as SizesFlops,
    )
    from pomona.scale.compute.thresholds import Standings as Standings
    from pomona.scale.curves.decide import decide as decide
    from pomona.scale.curves.inflection import inflection as inflection
    from pomona.scale.curves.results import (
        Curve as Curve,
        Decision as Decision,
        Decisions as Decisions,
        Inflection as Inflection,
        Method as Method,
        RankFigure as RankFigure,
    )
    from pomona.scale.curves.scores import (
        Measured as Measured,
        ScoredSystem as ScoredSystem,
    )
    from pomona.scale.laws.checks import (
        Families as Families,
        FamilyLaw as FamilyLaw,
        LackOfFit as LackOfFit,
        Untuned as Untuned,
    )
    from pomona.scale.laws.forms import PUBLISHED as PUBLISHED, Law as Law
    from pomona.scale.laws.held_out import HeldOut as HeldOut
    from pomona.scale.laws.multiverse import Cell as Cell, Multiverse as Multiverse
    from pomona.scale.laws.plan import plan as plan
    from pomona.scale.laws.results import Allocation as Allocation, ScalingFit as ScalingFit
    from pomona.scale.laws.run import fit as fit
    from pomona.scale.runs import Runs as Runs, read_runs as read_runs
    from pomona.scale.tables.columns import Columns as Columns
    from pomona.scale.tables.fits import Estimate as Estimate
    from pomona.scale.tables.flags import RowFlag as RowFlag
    from pomona.scale.tables.frontier import frontier as frontier
    from pomona.scale.tables.growth import growth as growth
    from pomona.scale.tables.results import (
        ArenaFit as ArenaFit,
        Contrast as Contrast,
        DoublingGain as DoublingGain,
        Frontier as Frontier,
        FrontierCurve as FrontierCurve,
        Growth as Growth,
        ListedModel as ListedModel,
        Makers as Makers,
        MetricReturns as MetricReturns,
        Month as Month,
        Overcome as Overcome,
        Quantity as Quantity,
        SizeReturns as SizeReturns,
        SizeStep as SizeStep,
        Trend as Trend,
    )
    from pomona.scale.tables.returns import returns as returns

__getattr__, __dir__ = lazily(
    __name__,
    {
        "compute.energy": "Efficiency efficiency",
        "compute.flops": "flops thresholds",
        "compute.results": "ModelFlops Planned SizesFlops",
        "compute.thresholds": "Standings",
        "curves.decide": "decide",
        "curves.inflection": "inflection",
        "curves.results": "Curve Decision Decisions Inflection Method RankFigure",
        "curves.scores": "Measured ScoredSystem",
        "laws.checks": "Families FamilyLaw LackOfFit Untuned",
        "laws.forms": "PUBLISHED Law",
        "laws.held_out": "HeldOut",
        "laws.multiverse": "Cell Multiverse",
        "laws.plan": "plan",
        "laws.results": "Allocation ScalingFit",
        "laws.run": "fit",
        "runs": "Runs read_runs",
        "tables.columns": "Columns",
        "tables.fits": "Estimate",
        "tables.flags": "RowFlag",
        "tables.frontier": "frontier",
        "tables.growth": "growth",
        "tables.results": "ArenaFit Contrast DoublingGain Frontier FrontierCurve Growth "
        "ListedModel Makers MetricReturns Month Overcome Quantity SizeReturns SizeStep "
        "Trend",
        "tables.returns": "returns",
    },
)
