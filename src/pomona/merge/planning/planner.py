"""From a recipe to a plan: models are opened, checked against each other, and every tensor of the
result gets its job.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.merge.plan import MergePlan
from pomona.merge.planning.models import (
    Opened,
    Resolve,
    folders_of,
    locate_model,
    open_model,
    packed_settings,
)
from pomona.merge.preparing.keymap import alike, unlike
from pomona.merge.reading.reader import MergekitDocument
from pomona.merge.reading.recipe import MergeRecipe, ModelRef, RecipeModule, TokenizerRule
from pomona.merge.reading.sections import read_recipe
from pomona.models import read_config
from pomona.models.tensors import View, is_read, packed_names

_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")


def plan_merge(
    recipe: MergeRecipe | MergekitDocument | str | Path | Mapping[str, Any],
    *,
    models: Mapping[str, Path] | None = None,
    seed: int | None = None,
    resolve: Resolve = locate_model,
    work: Path | None = None,
    allow_mixed: bool = False,
    dry_run: bool = False,
    tokenizers: Path | None = None,
) -> MergePlan:
    """Decide a whole merge before anything is written.

    models: folders for names of the recipe, taken before any other; `resolve` finds the rest (path,
        revision → folder).
    seed: overrides the recipe's, which is 0 without one.
    work: folder for tensors that must be prepared first (adapters, tokenizers); needed when the
        recipe asks for them, unused otherwise.
    allow_mixed: merge models whose config.json names different architectures (mergekit's
        --allow-crimes); tensors must fit all the same.
    dry_run: prepare nothing on the disk.
    tokenizers: folder for a tokenizer that must be made, in place of one in `work`, also in a dry
        run.
    Raises PomonaError naming model, tensor and remedy when the models do not fit each other or the
    recipe.
    """
    from pomona.merge.planning.jobs import Builder
    from pomona.merge.planning.result import (
        config_of,
        extra_files,
        left_behind,
        merge_notes,
        merged_modules,
        settings_notes,
        tokenizer_folder,
        vocabulary_notes,
    )

    path = recipe.path if isinstance(recipe, MergekitDocument) else recipe
    file = (Path(path),) if isinstance(path, str | Path) else ()
    recipe = recipe if isinstance(recipe, MergeRecipe) else read_recipe(recipe)
    prepared, opened, folders = open_models(
        recipe, models or {}, resolve, work, dry_run, tokenizers
    )
    mixed = allow_mixed or bool(prepared and prepared.frame)
    check_architectures(opened.values(), mixed)
    check_quantised(opened.values())
    frame = prepared.frame if prepared and prepared.frame else str(recipe.donor)
    check_heads(opened[frame], opened.values(), mixed)
    builder = Builder(recipe, opened, frame, prepared)
    jobs = builder.jobs()
    config = config_of(recipe, opened[frame], builder, jobs, prepared.config if prepared else {})
    notes = [*recipe.notes, *(prepared.notes if prepared else ()), *merge_notes(builder, jobs)]
    notes += settings_notes(opened[frame], opened.values())
    chosen = seed if seed is not None else recipe.seed or 0
    modules = merged_modules(builder, opened[frame].folder, chosen)
    notes += left_behind(opened[frame].folder, modules)
    if not recipe.tokenizer and not recipe.key_map:
        notes += vocabulary_notes(opened[frame], opened.values())
    tokenizer = prepared.tokenizer or prepared.tokenizers.get(frame) if prepared else None
    tokenizer = tokenizer or tokenizer_folder(opened[frame].folder)
    return MergePlan(
        models=builder.folders,
        sources=(*file, *folders),
        jobs=jobs,
        seed=chosen,
        config=config,
        tokenizer=tokenizer,
        recipe={**recipe.raw, "seed": chosen},
        extra=extra_files(
            recipe,
            opened,
            opened[frame].folder,
            tokenizer,
            prepared.special_ids if prepared else {},
            folders,
            bool(opened[frame].packed),
        )
        | modules,
        prepared=prepared.written if prepared else 0,
        notes=tuple(notes),
    )


def open_models(
    recipe: MergeRecipe,
    given: Mapping[str, Path],
    resolve: Resolve,
    work: Path | None,
    dry_run: bool,
    tokenizers: Path | None = None,
) -> tuple[Any, dict[str, Opened], tuple[Path, ...]]:
    """What was prepared of a recipe's models (None where nothing had to be), the models by their
    names in the recipe, and all folders that they come from. Arguments as of `plan_merge`.
    """
    merged = recipe.references
    folders = folders_of(recipe.named, given, resolve)
    prepared = None
    views = {str(ref): View.of(folders[str(ref.plain)]) for ref in merged}
    quantised = to_dequantise(recipe, views)
    if recipe.tokenizer or recipe.key_map or quantised or any(ref.lora for ref in merged):
        from pomona.merge.preparing.prepare import ModelSource, prepare

        if work is None and not dry_run:
            raise PomonaError(
                "needs a working folder for adapters, tokenizers and quantised weights",
                where="plan_merge",
                remedy="in Python, give work=FOLDER",
            )
        sources = {
            str(ref): ModelSource(
                folders[str(ref.plain)],
                folders[str(ModelRef(ref.lora, ref.lora_revision))] if ref.lora else None,
                ref in merged,
            )
            for ref in recipe.named
        }
        prepared = prepare(
            sources,
            work or Path(),
            base=str(recipe.base) if recipe.base else None,
            tokenizer=_tokenizer_mapping(recipe.tokenizer) if recipe.tokenizer else None,
            key_map=recipe.key_map or None,
            quantised=quantised,
            dry_run=dry_run,
            tokenizers=tokenizers,
        )
    elif unlike(views):
        from pomona.merge.preparing.prepare import Prepared

        named, notes = alike(views, str(recipe.donor))
        prepared = Prepared(named, notes=tuple(notes))
    views = prepared.views if prepared else views
    changes = prepared.changes if prepared else {}
    opened = {
        str(ref): open_model(ref, views[str(ref)], changes.get(str(ref), {})) for ref in merged
    }
    return prepared, opened, tuple(folders.values())


def to_dequantise(recipe: MergeRecipe, views: Mapping[str, View]) -> list[str]:
    """The models whose quantised weights become numbers: all that have some which are read, unless
    layers are only put together (`passthrough`, nothing scaled or changed) of models that are
    quantised alike.
    """
    configs = {name: read_config(view.folder) for name, view in views.items()}
    packed = [name for name, view in views.items() if packed_names(view.tensors, configs[name])]
    scopes = [recipe.parameters, *(source.parameters for source in recipe.sources)]
    for module in (*recipe.modules.values(), RecipeModule((), recipe.slices)):
        scopes += [module.parameters, *(piece.parameters for piece in module.slices)]
    copies = recipe.method == "passthrough" and not any("scale" in scope for scope in scopes)
    changed = recipe.tokenizer or recipe.key_map or any(ref.lora for ref in recipe.references)
    told = [packed_settings(views[name].folder, configs[name]) for name in packed]
    alike = len(packed) == len(views) and all(each == told[0] for each in told)
    if copies and alike and not changed:
        return []
    return [name for name in packed if is_read(views[name], configs[name])]


def _tokenizer_mapping(rule: TokenizerRule) -> dict[str, Any]:
    """The rule as mergekit writes it, models by their names in the recipe."""
    tokens: dict[str, Any] = {}
    for text, token in rule.tokens.items():
        source: Any = str(token.source) if isinstance(token.source, ModelRef) else token.source
        if token.source == "zero":
            source = {"kind": "zero"}
        elif token.token_id is not None:
            source = {"kind": "model_token", "model": source, "token_id": token.token_id}
        elif token.token is not None:
            source = {"kind": "model_token", "model": source, "token": token.token}
        tokens[text] = {"source": source, "force": token.force}
    return {
        "source": str(rule.source),
        "tokens": tokens,
        "pad_to_multiple_of": rule.pad_to_multiple_of,
    }


def check_architectures(models: Iterable[Opened], allow_mixed: bool) -> None:
    """Raise PomonaError naming two models whose config.json names different architectures."""
    first, *others = models
    for other in others:
        if _architecture(first) != _architecture(other) and not allow_mixed:
            mine, theirs = ("/".join(map(str, _architecture(model))) for model in (first, other))
            raise PomonaError(
                f'"{other.name}" is a {theirs} and "{first.name}" a {mine}',
                where=other.folder / "config.json",
                remedy=(
                    "merge models of one architecture, give a key_map, or allow it (--allow-mixed)"
                ),
            )


def check_quantised(models: Iterable[Opened]) -> None:
    """Raise PomonaError naming a model with quantised weights beside one without."""
    whole = [model for model in models if not model.packed]
    for model in models:
        if model.packed and whole:
            first = model.packed[0]
            raise PomonaError(
                f'"{model.name}" is quantised ({first} is {model.tensors[first].dtype}), and '
                f'"{whole[0].name}" is not',
                where=model.folder,
                remedy=f'save "{model.name}" in bfloat16 first: this kind is not read',
            )


def check_heads(frame: Opened, models: Iterable[Opened], allowed: bool) -> None:
    """Raise PomonaError for models whose matrices have one shape and are cut into other heads."""
    mine = heads_of(frame.text)
    for model in models:
        theirs = heads_of(model.text)
        for key, value in mine.items():
            if value is not None and theirs[key] not in (None, value) and not allowed:
                raise PomonaError(
                    f'"{key}" is {theirs[key]} in "{model.name}" and {value} in "{frame.name}": '
                    "their matrices are cut into other heads",
                    where=model.folder / "config.json",
                    remedy="merge models of one kind, or allow it (--allow-mixed)",
                )


def heads_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """How attention is cut into heads; None for what a config.json does not say."""
    heads = next((config[key] for key in _HEADS if config.get(key)), None)
    width, size = config.get("hidden_size") or config.get("n_embd"), config.get("head_dim")
    if size is None and isinstance(heads, int) and isinstance(width, int):
        size = width // heads
    return {
        "num_attention_heads": heads,
        "num_key_value_heads": config.get("num_key_value_heads") or heads,
        "head_dim": size,
    }


def _architecture(model: Opened) -> tuple[str, str]:
    names = model.config.get("architectures") or ["?"]
    return str(names[0]).replace("LLaMa", "Llama"), str(model.config.get("model_type"))
