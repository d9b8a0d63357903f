"""What a reader of a merge's dry run and card should know: what is copied, left out or stands in,
and filters that do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pomona.merge._plan import Job
from pomona.merge.reading.parameters import Condition, Settings, is_glob, matches

if TYPE_CHECKING:
    from pomona.merge.planning.jobs import Builder


def notes_of(builder: Builder, jobs: Mapping[str, Job], kept: Sequence[str]) -> Iterator[str]:
    """Notes on a merge; `kept` are the tensors that are copied because no module of the recipe
    covers them.
    """
    told = {
        f'are copied from "{builder.frame.name}"': kept,
        "are left out, since they are computed from config.json": builder.computed,
        "are optional and come from the models that have them": [
            *builder.optional.get("merge", ()),
            *builder.optional.get("pass", ()),
        ],
        "are optional and left out, since too few models have them": builder.optional.get(
            "leave", ()
        ),
    }
    for what, names in told.items():
        if names:
            yield f"{len(names)} tensors {what}, the first is {names[0]}"
    for model in builder.models.values():
        for name in sorted(model.stand_ins(jobs)):
            yield (
                f'"{model.name}" has no {name}, and its config.json does not tie it: its '
                "embedding stands in, as in mergekit"
            )
    yield from _filters(builder, set(jobs))
    dense = sorted(
        {float(item.parameters.get("density", 0)) for job in jobs.values() for item in job.inputs}
    )
    for density in (density for density in dense if density > 1):
        yield f'"density" {density:g} counts as 1: nothing is dropped'


def _filters(builder: Builder, made: set[str]) -> Iterator[str]:
    filters = {
        condition.filter
        for settings in _settings(builder)
        for value in settings.values()
        for condition in _conditions(value)
    }
    names = {name for model in builder.models.values() for name in model.tensors} | made
    for rule in sorted(rule for rule in filters if rule):
        if not any(matches(rule, name) for name in names):
            yield f'filter "{rule}" takes no tensor'
        elif is_glob(rule):
            yield (
                f'filter "{rule}" is read as a pattern for the whole name; mergekit would '
                "look for these very letters in it"
            )


def _settings(builder: Builder) -> Iterator[Settings]:
    yield builder.recipe.parameters
    for part in builder.parts:
        yield part.module.parameters
        for piece in part.module.slices:
            yield piece.parameters
    for source in builder.recipe.sources:
        yield source.parameters


def _conditions(value: Any) -> tuple[Condition, ...]:
    return (
        tuple(item for item in value if isinstance(item, Condition))
        if isinstance(value, tuple)
        else ()
    )
