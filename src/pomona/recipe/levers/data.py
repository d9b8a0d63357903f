"""The data lever: bands of scores, near-duplicates, groups that are shown more often."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, model_validator

from pomona.documents import StrictModel, problems
from pomona.recipe.asked import Needs
from pomona.recipe.fields import Mistakes, Positive, Share, Shares, Text, Texts
from pomona.recipe.graph import Node, Step
from pomona.recipe.lever import ALL, Make, TrainingLever
from pomona.recipe.schema import Recipe
from pomona.recipe.steps.data import deduplicate, finetune_upsampled, score, select
from pomona.recipe.system import System

OVER_CHECKPOINTS = ("el2n", "vog", "cat_var", "cat_diff")
DEDUPLICATED = "dedup/minhash"


def _banded(value: Any) -> Any:
    names = [value] if isinstance(value, str) else value
    return {name: list(BANDS) for name in names} if isinstance(names, list) else value


Band = Literal["bottom", "middle", "top"]
Score = Literal[
    "perplexity", "el2n", "memorization", "vog", "cat_var", "cat_diff", "length", "mtld"
]
BANDS: tuple[Band, ...] = get_args(Band)
Bands = Annotated[
    dict[Score, Annotated[list[Band], Field(min_length=1)]],
    Field(min_length=1),
    BeforeValidator(_banded, json_schema_input_type=Score | list[Score] | dict[Score, list[Band]]),
]


class Dedup(StrictModel):
    """Leave out near-duplicates: rows whose prompt and completion share most of their character
    n-grams with a row before them.
    """

    threshold: Share = 0.8
    """Jaccard similarity from which a row is a duplicate."""


class Upsample(StrictModel):
    """Show some groups more often at the end of training (Blakeney et al. 2024)."""

    groups: list[Text] | None = None
    """The groups to raise; those in the tail when left out."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Their share of the last part, in tokens."""
    last: Annotated[Shares, Field(min_length=1)] = Field(default=[0.2])
    """Length of the last part as a share of training, or several."""


class ChosenData(StrictModel):
    """Fine-tune on chosen data. All data as they come, and a random part of the same size, are
    always measured beside it.
    """

    by: Bands = Field(
        default={"perplexity": list(BANDS)},
        validate_default=True,
        description=(
            "Score that orders the examples, several of them, or the bands of each: "
            "{perplexity: [middle], el2n: [bottom, top]}."
        ),
    )
    keep: Shares
    """Share of the training text kept, in bytes, or several shares to try."""
    checkpoints: Texts | None = Field(
        default=None,
        description=(
            "Models that el2n, vog, cat_var and cat_diff are computed over, from early "
            "to late; the base if left out."
        ),
    )
    memorize: Positive = 32
    """Tokens of each completion that memorization asks for."""
    dedup: Dedup | None = None
    """Leave out near-duplicates."""
    upsample: Upsample | None = None
    """Raise the share of some groups at the end."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        over = [name for name in ("vog", "cat_var", "cat_diff") if name in self.by]
        if over and len(self.checkpoints or []) < 2:
            text = f'"{over[0]}" compares checkpoints: name two or more, from early to late'
            raise problems([(("checkpoints",), text)])
        return self


class DataLever(TrainingLever):
    """Measure all data, and every choice of data in the recipe."""

    name, Spec = "data", ChosenData
    spec: ChosenData

    @classmethod
    def needs(cls, spec: ChosenData, recipe: Recipe) -> Needs:
        """To be trained, and to score what is trained on."""
        yield from super().needs(spec, recipe)
        if set(spec.by) - {"length", "mtld"}:
            for uri in spec.checkpoints or [recipe.base]:
                yield ("by",), uri, "score"

    @classmethod
    def mistakes(cls, spec: ChosenData, recipe: Recipe) -> Mistakes:
        """Raising the tail needs one."""
        if spec.upsample and not spec.upsample.groups and not recipe.task.tail:
            text = '"upsample" raises the tail, and task.tail is 0: name its "groups"'
            yield ("upsample",), text

    @cached_property
    def variants(self) -> dict[str, tuple[Make, tuple[str, ...]]]:
        """How each is trained, and what it is compared with."""
        spec, variants = self.spec, dict[str, tuple[Make, tuple[str, ...]]]()
        variants[ALL] = (partial(self._trained, ALL, None), ())
        for keep in spec.keep:
            share = f" {keep:.0%}".replace("%", " %") if len(spec.keep) > 1 else ""
            control = f"prune/random{share}"
            select_random = partial(self._band, f"random{share}", "", "random", keep)
            variants[control] = (partial(self._trained, control, select_random), ())
            for by, bands in spec.by.items():
                for band in bands:
                    label = (f"{by} {band}" if len(spec.by) > 1 else band) + share
                    chosen = partial(self._band, label, by, band, keep)
                    made = partial(self._trained, f"prune/{label}", chosen)
                    variants[f"prune/{label}"] = (made, (control,))
        if spec.dedup:
            control = "dedup/random"
            some, kept = partial(self._kept, True), partial(self._kept, False)
            variants[control] = (partial(self._trained, control, some), ())
            made = partial(self._trained, DEDUPLICATED, kept)
            variants[DEDUPLICATED] = (made, (ALL, control))
        if spec.upsample:
            self.plan.require_groups(spec.upsample.groups or (), "levers.data.upsample.groups")
            for last in spec.upsample.last:
                label = f"upsample/last {last:.0%}".replace("%", " %")
                variants[label] = (partial(self._upsampled, label, last), (ALL,))
        return variants

    def _trained(
        self, variant: str, chosen: Callable[[int], Step] | None, system: System, seed: int
    ) -> Step:
        items = chosen(seed) if chosen else self.plan.training
        return self.plan.finetune(variant, items, seed, system)

    def _band(self, label: str, by: str, band: str, keep: float, seed: int) -> Step:
        plan, name = self.plan, f"select {label}"
        params = {"by": by, "keep": keep, "band": band, "seed": plan.recipe.seed}
        inputs: dict[str, Node] = {"items": plan.training}
        if band == "random":
            return plan.step(plan.named(name, seed), select, params | {"seed": seed}, inputs)
        return plan.step(name, select, params, inputs | {"scores": self._scored(by)})

    def _scored(self, by: str) -> Step:
        plan, spec = self.plan, self.spec
        over = bool(spec.checkpoints) and by in OVER_CHECKPOINTS
        names = [
            name
            for name in spec.by
            if (bool(spec.checkpoints) and name in OVER_CHECKPOINTS) == over
        ]
        uris = spec.checkpoints if over and spec.checkpoints else [plan.recipe.base]
        models = [plan.model(uri) for uri in uris]
        inputs = {
            "items": plan.training,
            **{f"model-{i:04d}": model for i, model in enumerate(models)},
        }
        params = {**plan.answering(), "scores": names, "memorize": spec.memorize}
        cost = plan.estimate("score", models[0], plan.training_count * len(models))
        name = f"score {'checkpoints' if over else 'training items'}"
        return plan.step(name, score, params, inputs, cost)

    def _kept(self, random: bool, seed: int) -> Step:
        """Without duplicates, or a random part of the same number of rows."""
        assert self.spec.dedup is not None
        plan = self.plan
        params = {
            "threshold": self.spec.dedup.threshold,
            "seed": seed if random else plan.recipe.seed,
            "random": random,
        }
        name = plan.named("random part", seed) if random else "deduplicate"
        return plan.step(name, deduplicate, params, {"items": plan.training})

    def _upsampled(self, variant: str, last: float, system: System, seed: int) -> Step:
        """Groups of the tail get a larger share at the end (Blakeney et al. 2024, arXiv
        2406.03476).
        """
        assert self.spec.upsample is not None
        params = {
            "groups": self.spec.upsample.groups,
            "tail": self.plan.recipe.task.tail,
            "raised": self.spec.upsample.share,
            "last": last,
        }
        work = finetune_upsampled
        return self.plan.finetune(variant, self.plan.training, seed, system, work=work, **params)
