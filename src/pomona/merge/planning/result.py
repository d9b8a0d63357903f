"""What stands beside the tensors of the result: config.json, the tokenizer's folder, the chat
template and other files.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona.errors import PomonaError
from pomona.merge._plan import Job
from pomona.merge.checkpoints.names import ROLES, is_head
from pomona.merge.planning.opened import Opened
from pomona.merge.planning.parts import Part, layer_sources
from pomona.merge.planning.templates import template_for
from pomona.merge.reading.document import MergeRecipe

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
_BESIDE = (
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "normalizer.json",
)


def config_of(
    recipe: MergeRecipe,
    donor: Opened,
    builder: Builder,
    jobs: Sequence[Job],
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
            _set_layers(config, part, builder.models)
    for key, value in changes.items():
        *path, last = key.split(".")
        inner = config
        for step in path:
            inner = inner.setdefault(step, {})
        inner[last] = value
    return config


def _set_layers(config: dict[str, Any], part: Part, models: Mapping[str, Opened]) -> None:
    """The number of layers, and every list with an entry per layer, of the part's own section of
    the config.
    """
    role = ROLES.get(part.name, "")
    section = _section(config, role)
    layers = [source for stack in part.stacks for source in layer_sources(part.slices(stack))]
    if not layers:
        return
    key = next((key for key in _DEPTHS.get(role, _DEPTHS[""]) if key in section), None)
    if key is None:
        where = f'"{part.name}"' if part.name else "the model"
        raise PomonaError(
            f"config.json does not say how many layers {where} has",
            remedy="add num_hidden_layers to it",
        )
    before = section[key]
    section[key] = len(layers)
    for name, value in list(section.items()):
        if (
            isinstance(value, list)
            and len(value) == before
            and ("layer" in name or "block" in name)
        ):
            section[name] = [
                _entry(_section(dict(models[model].config), role), name, layer, value)
                for model, layer in layers
            ]


def _entry(section: Mapping[str, Any], name: str, layer: int, fallback: list[Any]) -> Any:
    own = section.get(name)
    entries = own if isinstance(own, list) and layer < len(own) else fallback
    return entries[layer % len(entries)]


def _section(config: dict[str, Any], role: str) -> dict[str, Any]:
    inner = config.get("vision_config" if role == "vision" else "text_config")
    return inner if isinstance(inner, dict) and any(key in inner for key in _DEPTHS[""]) else config


def tokenizer_folder(folder: Path) -> Path | None:
    """`folder` when it holds a tokenizer."""
    return folder if any((folder / name).is_file() for name in _TOKENIZERS) else None


def extra_files(
    recipe: MergeRecipe,
    models: Mapping[str, Opened],
    donor: Path,
    tokenizer: Path | None,
    special_ids: Mapping[str, Any],
) -> dict[str, bytes]:
    """Further files of the result by name: generation settings of the donor with `special_ids` of
    another tokenizer, processor settings of the donor, its own code, and the recipe's chat
    template, also where the `tokenizer`'s own settings hold one.
    """
    found = {name: (donor / name).read_bytes() for name in _BESIDE if (donor / name).is_file()}
    if special_ids and (settings := found.get("generation_config.json")) is not None:
        found["generation_config.json"] = _json({**json.loads(settings), **special_ids})
    found |= {file.name: file.read_bytes() for file in sorted(donor.glob("*.py"))}
    template = (
        template_for(recipe.chat_template, [model.folder for model in models.values()])
        if recipe.chat_template
        else None
    )
    if template:
        found["chat_template.jinja"] = template.encode()
        own = tokenizer / "tokenizer_config.json" if tokenizer else None
        if own and own.is_file() and "chat_template" in (settings := json.loads(own.read_bytes())):
            found[own.name] = _json({**settings, "chat_template": template})
    return found


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()


def vocabulary_notes(donor: Opened, models: Iterable[Opened]) -> list[str]:
    """What to know when no rule for tokens is given, and embedding rows of one number stand for
    different tokens.
    """
    notes: list[str] = []
    mine = donor.folder / _TOKENIZERS[0]
    whole = mine.read_bytes() if mine.is_file() else b""
    for model in models:
        file = model.folder / _TOKENIZERS[0]
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
        read = json.loads(data)
        listed = read["model"]["vocab"]
        pieces = (
            listed.items()
            if isinstance(listed, dict)
            else ((piece[0], index) for index, piece in enumerate(listed))
        )
        added = ((entry["content"], entry["id"]) for entry in read.get("added_tokens") or ())
        return {index: text for text, index in (*pieces, *added)}
    except (ValueError, KeyError, TypeError):
        return {}
