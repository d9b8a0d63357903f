"""The markers lever: the model is trained with what is known of each row beside it, and infers it
of an item, or is told it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from pomona.documents import StrictModel
from pomona.errors import PomonaError, nearest
from pomona.markers import (
    AUTO,
    PAPER,
    Form,
    Marker,
    Offered,
    Taxonomy,
    Value,
    auto_markers,
    list_of,
    read_taxonomy,
)
from pomona.recipe.fields import Mistakes, Text
from pomona.recipe.graph import Node, RunFolder, Step
from pomona.recipe.inputs import QUICK, record_sources
from pomona.recipe.lever import Beside, TrainingLever
from pomona.recipe.marked import Marked, marked
from pomona.recipe.schema import Recipe
from pomona.recipe.steps.markers import (
    WORDS,
    as_value,
    begin_answers,
    finetune_on_lists,
    say_in_words,
    show_lists,
    source_of_marker,
    tag_items,
    take_lists_off,
    write_lists,
)
from pomona.recipe.steps.tables import rejectable
from pomona.recipe.system import Lists, System
from pomona.records import read
from pomona.tasks import fields_of

NONE, INFERRED = "markers/none", "markers/inferred"
FIXED, FORCED = "markers/fixed", "markers/forced"
IN_WORDS = "markers/words"
_TaxonomyOrFile = Annotated[
    Annotated[Text, Tag("file")] | Annotated[Taxonomy, Tag("own")],
    Discriminator(lambda value: "file" if isinstance(value, str) else "own"),
]
_DROPOUT = Annotated[float, Field(ge=0, le=1)]
_NUMBER = 12  # characters of a number or a free text in a list, for estimates


class Markers(StrictModel):
    """Fine-tune with what is known of each row in a list beside it, which the model then infers of
    an item, or is told (Treasure Hunt: D'souza et al. 2025, arXiv 2506.14702). A model that is
    trained on the same rows without lists is measured too.
    """

    taxonomy: _TaxonomyOrFile = "paper"
    """The markers: "paper", a YAML file beside the recipe, or what would stand in one."""
    form: Offered = "compact"
    """How lists are written: compact, or verbose as in the paper."""
    columns: dict[Text, Text] = Field(default={})
    """Columns of the records that say markers, by marker: {quality: score}. Those that the taxonomy
    names, tags that `pomona markers tag` wrote, and measures need none.
    """
    dataset_dropout: _DROPOUT = 0.5
    """Share of training prompts without any list, so that the model learns to infer."""
    sample_dropout: _DROPOUT = 0.5
    """Share of markers that are left out of each other list."""
    fixed: dict[Text, str | int | float] = Field(default={})
    """What is given with every item, by marker: a value, a template over the columns of its row, or
    "auto", the 95th percentile of quality in its group; nothing is given when left out.
    """
    forced: bool = False
    """Whether answers that are begun with the list of what is fixed are measured too."""
    words: Text | None = None
    """The same wish in words, behind the prompt, or around it where they have {prompt}: a control,
    asked of the model that is trained without lists.
    """


class MarkersLever(TrainingLever):
    """Measure the model with lists, left to infer them and told what to fix, beside one that was
    trained without.
    """

    name, Spec = "markers", Markers
    spec: Markers

    @classmethod
    def mistakes(cls, spec: Markers, recipe: Recipe) -> Mistakes:
        """Markers, values and columns that are not there, and wishes that training never shows."""
        if recipe.task.harness:
            yield (), '"markers" tags rows, and tasks of lm-evaluation-harness have none'
            return
        taxonomy = _taxonomy_of(spec, recipe)
        markers = taxonomy.markers
        for name in spec.columns:
            if name not in markers:
                yield ("columns", name), f'no marker "{name}" — {nearest(name, markers)}'
        if spec.fixed and max(spec.dataset_dropout, spec.sample_dropout) == 1:
            yield ("fixed",), "no list is behind a prompt in training, where a dropout is 1"
        if spec.forced and not spec.fixed:
            yield ("forced",), 'answers are begun with what is "fixed", and nothing is'
        for name, value in spec.fixed.items():
            if text := _misgiven(name, value, taxonomy):
                yield ("fixed", name), text
        if text := _unreadable(spec.words):
            yield ("words",), text
            return
        yield from _of_rows(spec, recipe, taxonomy)

    def names(self) -> Iterable[str]:
        """The control, what the model infers, and what it is told."""
        told = [FIXED] if self.spec.fixed else []
        return [*self._controls, INFERRED, *told, *([FORCED] if self.spec.forced else [])]

    @property
    def _controls(self) -> list[str]:
        return [NONE, *([IN_WORDS] if self.spec.words else [])]

    def apply(self, name: str, system: System) -> System:
        """The system trained with lists, or the control without."""
        seeds = tuple(self.plan.seeds)
        if name in (NONE, IN_WORDS):
            trained = system.trained(lambda seed: self._without(system, seed), seeds)
            if name == NONE:
                return replace(trained, against=())
            return replace(trained, sees=(*trained.sees, self._say), against=(NONE,))
        trained = system.trained(lambda seed: self._with(system, seed), seeds)
        see = self._show_nothing if name == INFERRED else self._show_fixed
        lists = {FIXED: self._lists, FORCED: self._begun}
        return replace(
            trained,
            sees=(*trained.sees, see),
            lists=lists.get(name, replace(self._lists, prompt=0)),
            against={INFERRED: (NONE,), FORCED: (*self._controls, FIXED)}.get(
                name, tuple(self._controls)
            ),
        )

    def _without(self, system: System, seed: int) -> Step:
        return self.plan.finetune(NONE, self.plan.training, seed, system)

    def _with(self, system: System, seed: int) -> Step:
        return self.plan.finetune("markers", self._written, seed, system, work=finetune_on_lists)

    @cached_property
    def _taxonomy(self) -> Taxonomy:
        return _taxonomy_of(self.spec, self.plan.recipe)

    @cached_property
    def _lists(self) -> Lists:
        prompt, answer = (
            _length(self._taxonomy, names, self.spec.form)
            for names in (self.spec.fixed, self._taxonomy.listed)
        )
        return Lists(self._taken_off, prompt, answer)

    @cached_property
    def _begun(self) -> Lists:
        """Lists that answers are begun with: these are read with the prompt, and none comes off."""
        prompt = self._lists.prompt + self._lists.answer
        return Lists(lambda _, pools: pools, prompt, 0, self._begin)

    def _begin(self, asked: Step, model: Node) -> Step:
        """The lists that a model infers of items, with what is fixed in them."""
        plan = self.plan
        params = {**plan.answering(), "room": self._lists.answer}
        inputs = {"items": asked, "model": model, "lists": self._written}
        cost = plan.estimate("generate", model, plan.item_count, 1, self._lists)
        name = f"begin answers with {asked.name.removeprefix('show ')}"
        return plan.step(name, begin_answers, params, inputs, cost)

    @cached_property
    def _written(self) -> Step:
        """The training items with lists."""
        plan, spec = self.plan, self.spec
        params = spec.model_dump(include={"form", "dataset_dropout", "sample_dropout"})
        params |= {"taxonomy": _dumped(self._taxonomy), "seed": plan.recipe.seed}
        inputs = {"items": plan.training, "tags": self._tags(plan.training)}
        return plan.step("write lists into training items", write_lists, params, inputs)

    def _tags(self, items: Step) -> Step:
        """What is known of items: of the test, the validation, or the training."""
        plan, recipe, spec = self.plan, self.plan.recipe, self.spec
        strict = items is plan.training
        of = recipe.train if strict else recipe.task
        if recipe.validation and items is plan.validation:
            of = recipe.validation
        templates = {} if strict else self._templates
        beside: dict[str, Node] = {"items": items}
        if any(one.measure == "tokens" for one in self._taxonomy.markers.values()):
            beside["model"] = plan.model(recipe.base)
        return plan.table(
            f"tag {items.name}", of, None, tag_items, beside,
            taxonomy=_dumped(self._taxonomy), columns=spec.columns, strict=strict,
            templates=templates,
        )  # fmt: skip

    @cached_property
    def _templates(self) -> dict[str, str]:
        """What is filled with the row of an item: values that are given, and words."""
        found = {n: v for n, v in self.spec.fixed.items() if isinstance(v, str) and _columns_of(v)}
        words = self.spec.words
        if words:
            found[WORDS] = words if "prompt" in fields_of(words) else f"{{prompt}} {words}"
        return found

    def _tags_of(self, items: Step) -> Step:
        """The tags of items that are asked, whatever was done to their prompts."""
        plan = self.plan
        wanted = [plan.items, *([plan.validation] if plan.recipe.validation else [])]
        while items not in wanted:
            items = items.inputs["items"]  # type: ignore[assignment] - a step that changed prompts
        return self._tags(items)

    def _shown(self, items: Step, fixed: Mapping[str, Value | None], what: str) -> Step:
        inputs: dict[str, Node] = {"items": items, "lists": self._written}
        if fixed:
            inputs["tags"] = self._tags_of(items)
        name = self.plan.on(f"show {what}", items)
        return self.plan.step(name, show_lists, {"fixed": dict(fixed)}, inputs)

    def _show_nothing(self, items: Step) -> Step:
        return self._shown(items, {}, "no list")

    def _show_fixed(self, items: Step) -> Step:
        fixed = {n: None if n in self._templates else v for n, v in self.spec.fixed.items()}
        return self._shown(items, fixed, "lists")

    def _say(self, items: Step) -> Step:
        inputs = {"items": items, "tags": self._tags_of(items)}
        return self.plan.step(self.plan.on("say it in words", items), say_in_words, {}, inputs)

    def _taken_off(self, items: Step, pools: Step) -> Step:
        inputs = {"pools": pools, "lists": self._written}
        return self.plan.step(f"take lists off {pools.name}", take_lists_off, {}, inputs)

    def beside(self, folder: RunFolder) -> Beside:
        """How well markers were inferred, and what became of what was given."""
        plan = self.plan
        given = self._show_fixed(plan.items) if self.spec.fixed else None
        names = {plan.called(name) for name in self.names()} | {plan.recipe.base}
        return marked(plan, folder, Marked(self._taxonomy, self._tags(plan.items), given, names))


def _taxonomy_of(spec: Markers, recipe: Recipe) -> Taxonomy:
    """Raises PomonaError for a file that cannot be read."""
    told = spec.taxonomy
    if isinstance(told, Taxonomy):
        return told.whole
    return read_taxonomy(told if told == PAPER else recipe.beside / told)


def _dumped(taxonomy: Taxonomy) -> dict[str, Any]:
    return taxonomy.model_dump(mode="json", exclude_defaults=True)


def _columns_of(value: Value | None) -> set[str]:
    """The columns that a template uses; none of a plain value, or of what is no template."""
    with suppress(PomonaError):
        return fields_of(value) if isinstance(value, str) else set()
    return set()


def _unreadable(template: str | None) -> str | None:
    """What is wrong with a template."""
    try:
        fields_of(template or "")
    except PomonaError as error:
        return f"{error.message} — {error.remedy}"
    return None


def _length(taxonomy: Taxonomy, names: Iterable[str], form: Form) -> int:
    """Tokens that a list of these markers takes at most, roughly: one for each character of compact
    ones but for blanks, and for two of words.
    """
    longest: dict[str, Value] = {}
    for name in names:
        marker = taxonomy.markers[name]
        if marker.values:
            longest[name] = max(marker.values, key=len)
        else:
            long = {"integer": 10**6, "float": 0.1234567890123}
            longest[name] = long.get(marker.kind, "x" * _NUMBER)
    if not longest:
        return 0
    told = list_of(longest, taxonomy, form)
    characters = len(told if form == "verbose" else told.replace(" ", "")) + 2
    return characters if form == "compact" else characters // 2 + 1


def _misgiven(name: str, value: Value, taxonomy: Taxonomy) -> str | None:
    """What is wrong with a value that is given with every item."""
    listed = taxonomy.listed
    if name not in listed:
        told = "stands in no list" if name in taxonomy.markers else "is none of the taxonomy"
        return f'marker "{name}" {told} — {nearest(name, listed)}'
    if isinstance(value, str) and ((text := _unreadable(value)) or _columns_of(value)):
        return text
    marker = listed[name]
    if value == AUTO and AUTO not in marker.values:
        known = auto_markers(taxonomy)
        some = f"give a value: it is known of {', '.join(known) or 'no marker'}"
        return None if name in known else f'marker "{name}" has no "{AUTO}" — {some}'
    wrong = marker.wrong(as_value(marker, value))
    return None if wrong is None else f'marker "{name}" {wrong}'


def _read(marker: Marker, text: str) -> Value:
    """A cell as tags read it."""
    with suppress(ValueError):
        return text if marker.values else float(text)
    return text


class _Rows:
    """The records of a part of a recipe, as far as they can be looked at before a run."""

    def __init__(self, recipe: Recipe, part: Any) -> None:
        data = recipe.data
        files = record_sources(part.records or data.records, recipe.beside)
        errors = "stop" if data.on_error == "stop" else "drop"
        with rejectable(data.on_error):
            self._records = read([str(path) for path in files], on_error=errors)
        self.there = self._records.column_names
        self._small = sum(path.stat().st_size for path in files) <= QUICK
        self._where = {**data.where, **part.where}
        if data.group and data.groups:
            self._where = {**self._where, data.group: data.groups}

    def wrong(self, marker: Marker, column: str) -> str | None:
        """What is wrong with the values of a column as a marker's, looked at where they are few."""
        if marker.kind == "text" or not (self._small and column in self.there):
            return None
        values: set[Any] = set()
        for batch in self._records.where(**self._where).select(column).stream():
            values.update(batch.column(0).unique().to_pylist())
        told = (str(one).strip() for one in values if one is not None)
        wrong = (marker.wrong(_read(marker, one)) for one in sorted(told) if one not in ("", "nan"))
        return next((text for text in wrong if text is not None), None)


def _of_rows(spec: Markers, recipe: Recipe, taxonomy: Taxonomy) -> Mistakes:
    """What the rows to train on and those to answer have not, or have outside the taxonomy. Files
    that cannot be read are told where the run is planned.
    """
    if recipe.train is None:
        return
    with suppress(PomonaError):
        training, asked = _Rows(recipe, recipe.train), _Rows(recipe, recipe.task)
        yield from _in_training(spec, taxonomy, training)
        yield from _in_wishes(spec, taxonomy, asked)


def _in_training(spec: Markers, taxonomy: Taxonomy, rows: _Rows) -> Mistakes:
    for name, marker in taxonomy.markers.items():
        column = source_of_marker(name, marker, spec.columns, rows.there)
        place = ("columns", name) if name in spec.columns else ("taxonomy",)
        if column is None:
            continue
        if column not in rows.there:
            if marker.measure is None or name in spec.columns:
                yield place, f'"{name}": no column "{column}" — {nearest(column, rows.there)}'
        elif wrong := rows.wrong(marker, column):
            yield place, f'"{name}" from column "{column}" {wrong}'
    known = _tagged(taxonomy, spec.columns, rows.there)
    for name in spec.fixed:
        if name in taxonomy.markers and name not in known:
            text = f'nothing says "{name}" of training rows: name its column under "columns"'
            yield ("fixed", name), text


def _in_wishes(spec: Markers, taxonomy: Taxonomy, rows: _Rows) -> Mistakes:
    there = set(rows.there)
    for name, value in spec.fixed.items():
        used = _columns_of(value)
        for column in sorted(used - there):
            yield ("fixed", name), f'no column "{column}" — {nearest(column, there)}'
        alone = next((one for one in used if value == f"{{{one}}}"), None)
        marker = taxonomy.markers.get(name)
        if alone and marker and (wrong := rows.wrong(marker, alone)):
            yield ("fixed", name), f'"{name}" from column "{alone}" {wrong}'
    for column in sorted(_columns_of(spec.words) - {"prompt", *there}):
        yield ("words",), f'no column "{column}" — {nearest(column, there)}'


def _tagged(taxonomy: Taxonomy, columns: Mapping[str, str], there: Iterable[str]) -> set[str]:
    """The markers of which something can be known without asking a model."""
    there, markers = list(there), taxonomy.markers
    found = {
        name
        for name, one in markers.items()
        if source_of_marker(name, one, columns, there) in there
        or one.measure
        or any(value.rules for value in one.values.values())
    }
    return found | {name for name, one in markers.items() if one.of in found}
