"""What stands beside the tensors of the result: config.json, the tokenizer's folder, the chat
template and other files; and notes for whoever reads a dry run or the card.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pomona.documents import parse_json, read_json
from pomona.errors import PomonaError, nearest
from pomona.merge.plan import TensorJob
from pomona.merge.planning.layers import SlicedLayers
from pomona.merge.planning.models import (
    PACKED_FILES,
    ModelPart,
    Opened,
    layer_sources,
    packed_settings,
    set_entry,
)
from pomona.merge.reading.parameters import Condition, Settings, is_glob, matches
from pomona.merge.reading.recipe import MergeRecipe
from pomona.models import read_config
from pomona.models.tensors import ROLES, content_of, is_head

if TYPE_CHECKING:
    from pomona.merge.planning.jobs import Builder


_TORCH = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64"}
_DEPTHS = {
    "encoder": ("num_layers", "encoder_layers", "num_hidden_layers"),
    "decoder": ("num_decoder_layers", "decoder_layers", "num_hidden_layers"),
    "": ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth"),
}
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_TEMPLATES = "additional_chat_templates"
_MARKERS = "markers.json"
_SENTENCES = (
    "modules.json",
    "config_sentence_transformers.json",
    *(
        f"sentence_{kind}_config.json"
        for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
    ),
)
_BESIDE = (
    "generation_config.json",
    "audio_tokenizer_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "normalizer.json",
)
_NUMBERED = re.compile(r"\b(?:layers|layer|h|blocks|block)[\\.]+[(\[]*\d[^\s\"]*")


def config_of(
    recipe: MergeRecipe,
    donor: Opened,
    builder: Builder,
    jobs: Sequence[TensorJob],
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    """config.json of the result: the donor's, with its own number of layers, type of weights and
    tied heads, and with `changes`.
    """
    config = copy.deepcopy(dict(donor.config))
    kinds = {job.dtype for job in jobs if job.dtype in _TORCH}
    if len(kinds) == 1:
        config["dtype" if "dtype" in config else "torch_dtype"] = _TORCH[kinds.pop()]
    if (
        donor.ties
        and any(is_head(job.name) for job in jobs)
        and not all(model.ties for model in builder.models.values())
    ):
        config["tie_word_embeddings"] = False
    for part in builder.parts:
        if part.module.slices:
            _set_layers(config, part, builder)
    for key, value in changes.items():
        set_entry(config, key, value)
    return config


def _set_layers(config: dict[str, Any], part: ModelPart, builder: Builder) -> None:
    """The number of layers, and all that names layers or says something of each, in the part's own
    section of the config.
    """
    role = ROLES.get(part.name, "")
    section = _section(config, role)
    layers = [source for stack in part.stacks for source in layer_sources(part.slices(stack))]
    key = next((key for key in _DEPTHS.get(role, _DEPTHS[""]) if section.get(key)), None)
    if key is None:
        where = f'"{part.name}"' if part.name else "the model"
        raise PomonaError(
            f"config.json does not say how many layers {where} has",
            remedy="add num_hidden_layers to it",
        )
    sliced = SlicedLayers(
        layers,
        {model: _section(dict(builder.models[model].config), role) for model, _ in layers},
        section[key],
        builder.frame.folder / "config.json",
    )
    if role == "vision" and config.get("vision_feature_layer") and sliced.moved:
        raise sliced.wrong("vision_feature_layer", config["vision_feature_layer"])
    sliced.renumber(section)
    if sliced.moved and builder.frame.packed:
        _check_unnumbered(builder.frame)
    section[key] = len(layers)


def _check_unnumbered(frame: Opened) -> None:
    """Raise PomonaError where layers that are quantised, or not, are named by their number."""
    for name, said in packed_settings(frame.folder, frame.config).items():
        if found := _NUMBERED.search(json.dumps(said)):
            raise PomonaError(
                f'says of layers by their number how they are quantised ("{found[0][:60]}"), and '
                "they have other numbers in the result",
                where=frame.folder / name,
                remedy="make them numbers first: add parameters: {scale: 1.0} to the recipe",
            )


def _section(config: dict[str, Any], role: str) -> dict[str, Any]:
    inner = config.get("vision_config" if role == "vision" else "text_config")
    return (
        inner if isinstance(inner, dict) and any(inner.get(key) for key in _DEPTHS[""]) else config
    )


def tokenizer_folder(folder: Path) -> Path | None:
    """`folder` when it holds a tokenizer."""
    return folder if any(os.path.lexists(folder / name) for name in _TOKENIZERS) else None


def extra_files(
    recipe: MergeRecipe,
    models: Mapping[str, Opened],
    donor: Path,
    tokenizer: Path | None,
    special_ids: Mapping[str, Any],
    folders: Sequence[Path],
    packed: bool = False,
) -> dict[str, bytes]:
    """Further files of the result by name: generation settings of the donor with `special_ids` of
    another tokenizer, processor settings of the donor, its own code, the recipe's chat template,
    also where the `tokenizer`'s own settings hold one, and the markers that models and adapters in
    these `folders` were trained with, where they are the same; where tensors stay quantised
    (`packed`), what says how.
    """
    for name in ("generation_config.json", "config.json"):
        read_config(donor, name)
    for name in ("tokenizer_config.json", "special_tokens_map.json") if tokenizer else ():
        read_config(cast("Path", tokenizer), name)
    if tokenizer and os.path.lexists(tokenizer / "tokenizer.json"):
        read_json(tokenizer / "tokenizer.json", finite=False)
    taken = [name for name in (*_BESIDE, *PACKED_FILES * packed) if os.path.lexists(donor / name)]
    files = {name: content_of(donor / name) for name in taken}
    files |= {name: content_of(donor / name) for name in module_files(donor)}
    marked = [folder / _MARKERS for folder in folders if os.path.lexists(folder / _MARKERS)]
    if len(told := {content_of(file) for file in marked}) == 1:
        files[_MARKERS] = told.pop()
    if special_ids and "generation_config.json" in files:
        settings = read_config(donor, "generation_config.json")
        files["generation_config.json"] = _json({**settings, **special_ids})
    files |= {file.name: content_of(file) for file in sorted(donor.glob("*.py"))}
    if tokenizer is not None:
        further = sorted((tokenizer / _TEMPLATES).glob("*.jinja"))
        files |= {f"{_TEMPLATES}/{file.name}": content_of(file) for file in further}
    template = (
        template_for(recipe.chat_template, [model.folder for model in models.values()])
        if recipe.chat_template
        else None
    )
    if template:
        files["chat_template.jinja"] = template.encode()
        settings = read_config(tokenizer, "tokenizer_config.json") if tokenizer else {}
        if "chat_template" in settings:
            files["tokenizer_config.json"] = _json({**settings, "chat_template": template})
    return files


def module_files(folder: Path) -> list[str]:
    """The files of a sentence-transformers model beside its network: what says which modules
    follow the network (modules.json), and what these hold. Pickles are never taken.

    Raises PomonaError for a modules.json that names no folders of this model.
    """
    modules = folder / "modules.json"
    if not os.path.lexists(modules):
        return []
    names = [name for name in _SENTENCES if (folder / name).is_file()]
    for module in read_json(modules, top=list):
        path = module.get("path") if isinstance(module, dict) else None
        if not isinstance(path, str) or ".." in Path(path).parts or Path(path).is_absolute():
            message = f"names a module at {path!r}, and a module is a folder of this model"
            raise PomonaError(message, where=modules, remedy="copy or download it again")
        names += [
            file.relative_to(folder).as_posix()
            for file in (sorted((folder / path).rglob("*")) if path.strip("./") else ())
            if file.is_file() and file.suffix in (".json", ".safetensors", ".txt", ".model")
        ]
    return names


def merged_modules(builder: Builder, donor: Path, seed: int) -> dict[str, bytes]:
    """The files of the weights of modules beside the network that could be merged."""
    weights = [name for name in module_files(donor) if name.endswith("/model.safetensors")]
    made = {name: builder.module(name, seed) for name in weights}
    return {name: content for name, content in made.items() if content is not None}


def left_behind(folder: Path, merged: Iterable[str] = ()) -> list[str]:
    """Notes on what else the donor's folder holds and the result has not, or has as it was; of
    modules' weights, `merged` are not as they were.
    """
    taken = [name for name in module_files(folder) if name not in merged]
    kept = {name.partition("/")[0] for name in (*taken, *merged)} | {_TEMPLATES}
    others = sorted(
        each.name
        for each in folder.iterdir()
        if each.is_dir() and each.name[0] not in "._" and each.name not in kept
    )
    weights = [name for name in taken if name.endswith(".safetensors")]
    notes = []
    if weights:
        notes.append(f"{', '.join(weights)}: not merged, but as in {folder}")
    if merged:
        notes.append(f"{', '.join(merged)}: merged as what stands behind the layers")
    if others:
        notes.append(f"folders of {folder} that do not go along: {', '.join(others[:8])}")
    return notes


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


_EACH = "{% for message in messages %}"
_PROMPT = "{% endfor %}{% if add_generation_prompt %}"
TEMPLATES = {
    "chatml": _EACH
    + "{{ '<|im_start|>' ~ message['role'] ~ '\\n' ~ message['content'] ~ '<|im_end|>\\n' }}"
    "" + _PROMPT + "{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "llama3": "{{ bos_token }}"
    + _EACH
    + "{{ '<|start_header_id|>' ~ message['role'] ~ '<|end_header_id|>\\n\\n' }}"
    "{{ message['content'] | trim }}{{ '<|eot_id|>' }}"
    + _PROMPT
    + "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
    "mistral": "{% set system = messages[0]['content'] ~ '\\n\\n' if messages[0]['role'] == "
    "'system' else '' %}{{ bos_token }}"
    "{% for message in (messages[1:] if system else messages) %}{% if (message['role'] == 'user') "
    "!= (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('after the system message, user and assistant take turns') }}{% endif "
    "%}{% if message['role'] == 'user' %}"
    "{{ ' [INST] ' ~ (system if loop.first else '') ~ message['content'] ~ ' [/INST]' }}"
    "{% else %}{{ ' ' ~ message['content'] ~ eos_token }}{% endif %}{% endfor %}",
    "alpaca": (
        "{% set heads = {'user': 'Instruction', 'assistant': 'Response', 'user_context': "
        "'Input'} %}"
    )
    + _EACH
    + ""
    "{% if message['role'] == 'system' %}{{ message['content'] | trim ~ '\\n\\n' }}{% else %}"
    "{{ '### ' ~ heads[message['role']] ~ ':\\n' ~ message['content'] | trim ~ '\\n\\n' }}{% "
    "endif %}"
    "" + _PROMPT + "{{ '### Response:\\n' }}{% endif %}",
    "exaone": _EACH
    + "{% if loop.first and message['role'] != 'system' %}{{ '[|system|][|endofturn|]\\n' "
    "}}{% endif %}"
    "{{ '[|' ~ message['role'] ~ '|]' ~ message['content'] }}{{ '\\n' if message['role'] == "
    "'user' else '[|endofturn|]\\n' }}"
    "" + _PROMPT + "{{ '[|assistant|]' }}{% endif %}",
}


def template_for(asked: str, folders: Sequence[Path]) -> str | None:
    """The chat template that a recipe asks for: a name, "auto" for the one most models have (the
    first of equals), or Jinja itself.

    None when no model has one. Raises PomonaError for an unknown name.
    """
    if asked == "auto":
        templates = [text for folder in folders if (text := _own(folder))]
        return Counter(templates).most_common(1)[0][0] if templates else None
    if "{" in asked:
        return asked
    if asked not in TEMPLATES:
        remedy = f"{nearest(asked, [*TEMPLATES, 'auto'])}; or write the template itself, in Jinja"
        raise PomonaError(f'unknown chat template "{asked}"', where="chat_template", remedy=remedy)
    return TEMPLATES[asked]


def _own(folder: Path) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        try:
            return content_of(file).decode().strip()
        except UnicodeDecodeError:
            raise PomonaError("is not UTF-8 text", where=file, remedy="save it as UTF-8") from None
    template = read_config(folder, "tokenizer_config.json").get("chat_template")
    if isinstance(template, list):
        template = next(
            (item.get("template") for item in template if item.get("name") == "default"), None
        )
    return template.strip() if isinstance(template, str) and template.strip() else None


def merge_notes(builder: Builder, made: Sequence[TensorJob]) -> Iterator[str]:
    """Notes on a merge, from the jobs that were made and what was noticed on the way."""
    jobs = {job.name: job for job in made}
    come = [*builder.optional.get("merge", ()), *builder.optional.get("pass", ())]
    few = builder.optional.get("leave", ())
    told = {
        f'tensors copied from "{builder.frame.name}"': builder.kept,
        "tensors left out, since they are computed from config.json": builder.computed,
        "tensors of whole numbers that are those of the base or first model": builder.taken,
        "optional tensors that come from the models that have them": come,
        "optional tensors left out, since too few models have them": few,
    }
    for what, names in told.items():
        if names:
            yield f"{what}: {len(names):,}, the first is {names[0]}"
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
    if isinstance(value, tuple):
        return tuple(item for item in value if isinstance(item, Condition))
    return ()


# What a model computes does not depend on these, or it is settled elsewhere.
_ELSEWHERE = re.compile(
    r"_.*|architectures|model_type|transformers_version|(?:torch_)?dtype|use_cache|vocab_size|.*_id"
    r"|.*token_index|tie_word_embeddings|id2label|label2id|num_labels|quantization_config|auto_map"
    r"|.*dropout.*|.*_pdrop|initializer_range|pretraining_tp|gradient_checkpointing|output_\w+"
    r"|return_dict|torchscript|unsloth_\w+|\w+_config|num_hidden_layers|n_layers?|num_layers"
    r"|problem_type|finetuning_task|task_specific_params|layerdrop"
)
# Told also where only one of two models says it.
_NEEDED = ("rope_theta", "rope_scaling", "max_position_embeddings", "sliding_window", "hidden_act")


def settings_notes(donor: Opened, models: Iterable[Opened]) -> list[str]:
    """What models that are merged compute in another way than the donor, whose config.json the
    result has.
    """
    notes: list[str] = []
    mine = _computing(donor.text)
    for model in models:
        theirs = _computing(model.text)
        unlike = [
            f"{key} {_told(theirs.get(key))} and {_told(mine.get(key))}"
            for key in dict.fromkeys((*mine, *theirs))
            if mine.get(key) != theirs.get(key)
            and ((key in mine and key in theirs) or key in _NEEDED)
        ]
        if unlike:
            notes.append(
                f'"{model.name}" and "{donor.name}", whose config.json the result has, do not '
                f"compute alike: {', '.join(unlike)}"
            )
    return notes


def _computing(section: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a section that matter for what is computed; those of rotary positions in one
    form, whichever version of transformers wrote them.
    """
    found = {key: value for key, value in section.items() if not _ELSEWHERE.fullmatch(key)}
    lists = {key for key in found if "layer" in key and isinstance(found[key], list)}
    parameters = found.pop("rope_parameters", None) or found.pop("rope_scaling", None) or {}
    found.pop("rope_scaling", None)
    if "rope_theta" in parameters:
        found["rope_theta"] = parameters["rope_theta"]
    scaling = {
        "rope_type" if key == "type" else key: value
        for key, value in parameters.items()
        if key != "rope_theta"
    }
    if scaling and scaling != {"rope_type": "default"}:
        found["rope_scaling"] = scaling
    return {key: value for key, value in found.items() if key not in lists}


def _told(value: Any) -> str:
    return "(not given)" if value is None else str(value)[:80]


def vocabulary_notes(donor: Opened, models: Iterable[Opened]) -> list[str]:
    """What to know when no rule for tokens is given, and embedding rows of one number stand for
    different tokens.
    """
    notes: list[str] = []
    mine = donor.folder / "tokenizer.json"
    whole = mine.read_bytes() if mine.is_file() else b""
    for model in models:
        file = model.folder / "tokenizer.json"
        if not whole or not file.is_file() or (theirs := file.read_bytes()) == whole:
            continue
        one, other = _tokens(whole), _tokens(theirs)
        unlike = [index for index in one if other.get(index, one[index]) != one[index]]
        if unlike:
            first = f"{unlike[0]} is {one[unlike[0]]!r} and {other[unlike[0]]!r}"
            remedy = (
                "rows are merged by number; tokenizer_source: base or union matches them by token"
            )
            notes.append(
                f'"{donor.name}" and "{model.name}" have different tokens for {len(unlike)} '
                f"ids, e.g. {first}: {remedy}"
            )
    return notes


def _tokens(data: bytes) -> dict[int, str]:
    """The token of every id in a tokenizer.json; none when it is of an unknown form."""
    try:
        read = parse_json(data, "tokenizer.json", finite=False)
        listed = read["model"]["vocab"]
        pieces = (
            listed.items()
            if isinstance(listed, dict)
            else ((piece[0], index) for index, piece in enumerate(listed))
        )
        added = ((entry["content"], entry["id"]) for entry in read.get("added_tokens") or ())
        return {index: text for text, index in (*pieces, *added)}
    except (PomonaError, ValueError, KeyError, TypeError):
        return {}
