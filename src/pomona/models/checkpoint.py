"""A checkpoint folder is looked at before anything is loaded from it: are the files there, whole,
safe, and do they hold what they must? The heads of safetensors files are read here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pomona.documents import open_file, parse_json, read_json
from pomona.errors import PomonaError

INDEX = "model.safetensors.index.json"
_SINGLE = "model.safetensors"
_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
)
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_AGAIN = "copy or download it again"
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
_LONGEST = 100_000_000  # bytes of a header, as the safetensors library has it
_SIDES, _SIDE = 32, 1 << 40  # sides of a shape, and how long one is at most
_SETTINGS = 1 << 23  # bytes of config.json; one with names for 100,000 classes has a third
_SHARDS = 1 << 26  # bytes of an index; that of 91,000 tensors has 9 MB


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor's bytes are: file, first byte and number of bytes; and how they are read."""

    file: Path
    offset: int
    size: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


def check(folder: Path) -> None:
    """Raise a PomonaError naming the first file that is missing, cut short, of a kind that is never
    loaded, or holds something else than it must.
    """
    if not folder.is_dir():
        raise PomonaError(
            "is not a checkpoint folder",
            where=folder,
            remedy="give the folder that holds config.json and model.safetensors",
        )
    if not os.path.lexists(folder / "config.json"):
        remedy = "every checkpoint folder needs one; was the model saved with save_pretrained?"
        if (folder / "adapter_config.json").is_file():
            remedy = "this is an adapter: make a checkpoint of MODEL+ADAPTER with `pomona merge`"
        raise PomonaError("is missing", where=folder / "config.json", remedy=remedy)
    for name in _KINDS_BY_FILE:
        read_config(folder, name)
    tensor_places(folder)
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise PomonaError(
            "has no tokenizer",
            where=folder,
            remedy=f"put one of {', '.join(_TOKENIZERS[:3])} beside config.json",
        )


def count_parameters(folder: Path) -> int:
    """Stored weights of a checkpoint, read from the headers alone."""
    return sum(place.elements for place in tensor_places(folder).values())


def tensor_places(folder: Path) -> dict[str, TensorPlace]:
    """Where each tensor of a checkpoint folder is, from the heads of its files: the shards that its
    index names, else model.safetensors, else every safetensors file.

    Raises PomonaError naming a file that is missing, cut short or malformed, a tensor that is there
    twice, and one that index and shard do not agree on.
    """
    index = _index(folder)
    places: dict[str, TensorPlace] = {}
    for file in _weight_files(folder, index):
        for name, place in read_header(file).items():
            if name in places:
                raise PomonaError(
                    f'tensor "{name}" is also in {places[name].file.name}',
                    where=file,
                    remedy="keep one of the two files, or name the right ones in " + INDEX,
                )
            if index and index.get(name) != file.name:
                other = f"names {index[name]} for it" if name in index else "does not name it"
                message = f'holds tensor "{name}", and {INDEX} {other}'
                raise PomonaError(message, where=file, remedy=_AGAIN)
            places[name] = place
    for name, file in index.items():
        if name not in places:
            message = f'has no tensor "{name}", which {INDEX} says it holds'
            raise PomonaError(message, where=folder / file, remedy=_AGAIN)
    return places


def _index(folder: Path) -> dict[str, str]:
    """The shard of every tensor; empty where there is no index."""
    file = folder / INDEX
    if not os.path.lexists(file):
        return {}
    said = read_json(file, finite=False, largest=_SHARDS).get("weight_map")
    if not isinstance(said, dict) or not said:
        raise PomonaError('has no "weight_map" from tensors to files', where=file, remedy=_AGAIN)
    for tensor, name in said.items():
        if not isinstance(name, str) or Path(name).name != name or len(name.encode()) > 255:
            raise PomonaError(
                f'"{tensor[:80]}" is in {str(name)[:80]!r}, and a shard is a file of this folder',
                where=file,
                remedy=_AGAIN,
            )
    return said


def _weight_files(folder: Path, index: Mapping[str, str]) -> list[Path]:
    if index:
        names = sorted(set(index.values()))
        missing = [name for name in names if not os.path.lexists(folder / name)]
        if missing:
            message = f"names {missing[0]}, which is not there"
            raise PomonaError(message, where=folder / INDEX, remedy=_AGAIN)
        return [folder / name for name in names]
    if os.path.lexists(folder / _SINGLE):
        return [folder / _SINGLE]
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise _no_weights(folder)
    return files


def _no_weights(folder: Path) -> PomonaError:
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        return PomonaError(
            (
                f"holds its weights only as pickle ({pickles[0]}), and loading a pickle can run "
                "any code"
            ),
            where=folder,
            remedy="convert it to safetensors where you trust it: model.save_pretrained(folder)",
        )
    ggufs = sorted(folder.glob("*.gguf"))
    remedy = (
        f"write gguf:{ggufs[0]}" if ggufs else "save the model with model.save_pretrained(folder)"
    )
    return PomonaError("holds no *.safetensors file", where=folder, remedy=remedy)


def read_header(file: Path) -> dict[str, TensorPlace]:
    """The tensors of a safetensors file (format: 8 bytes of length, JSON header, data).

    Raises PomonaError for a file that cannot be read, is cut short, or is malformed: an unknown
    type, sizes that do not fit, tensors that overlap.
    """
    try:
        with open_file(file) as stream:
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(8), "little")
            data = stream.read(length) if length <= min(_LONGEST, size - 8) else b""
    except OSError as error:
        raise PomonaError(f"cannot be read: {error.strerror}", where=file, remedy=_AGAIN) from None
    if size < 8 or (length <= _LONGEST and length > size - 8):
        message = f"is cut short: {size:,} bytes do not hold its header"
        raise PomonaError(message, where=file, remedy=_AGAIN)
    if length > _LONGEST:
        message = f"is not a safetensors file: its header would have {length:,} bytes"
        raise PomonaError(message, where=file, remedy=_AGAIN)
    header: dict[str, Any] = parse_json(
        data, file, wrong="is not a safetensors file: its header is not JSON"
    )
    header.pop("__metadata__", None)
    places = {name: _place(file, name, said, 8 + length) for name, said in header.items()}
    _check_data(file, places, size)
    return places


def _place(file: Path, name: str, said: Any, start: int) -> TensorPlace:
    said = said if isinstance(said, dict) else {}
    dtype, shape, offsets = (said.get(key) for key in ("dtype", "shape", "data_offsets"))
    message = None
    if not isinstance(dtype, str) or dtype not in _BITS:
        message = f"is of type {str(dtype)[:40]}; known types: {', '.join(_BITS)}"
    elif not _counts(shape, _SIDE) or len(shape) > _SIDES:
        message = f"has the shape {str(shape)[:80]}"
    elif not _counts(offsets, 1 << 62) or len(offsets) != 2:
        message = f"is at {str(offsets)[:80]}, not from one byte to another"
    elif math.prod(shape) * _BITS[dtype] != 8 * (offsets[1] - offsets[0]):
        message = f"is {dtype} {shape} in {offsets[1] - offsets[0]:,} bytes"
    if message:
        wrong = f'is not a safetensors file: tensor "{name[:200]}" {message}'
        raise PomonaError(wrong, where=file, remedy=_AGAIN)
    first, end = offsets
    return TensorPlace(file, start + first, end - first, dtype, tuple(shape))


def _counts(value: Any, most: int) -> bool:
    """Whether a value is a list of whole numbers from 0 to `most`; True and False are none."""
    return isinstance(value, list) and all(
        type(item) is int and 0 <= item <= most for item in value
    )


def _check_data(file: Path, places: Mapping[str, TensorPlace], size: int) -> None:
    end, before = 0, ""
    for name, place in sorted(places.items(), key=lambda each: (each[1].offset, each[1].size)):
        if place.offset < end and place.size:
            message = f'is not a safetensors file: tensors "{before}" and "{name}" overlap'
            raise PomonaError(message, where=file, remedy=_AGAIN)
        if place.size:
            end, before = place.offset + place.size, name
    if end > size:
        message = f"is cut short: {size:,} of {end:,} bytes"
        raise PomonaError(message, where=file, remedy=_AGAIN)


def read_config(folder: Path, name: str = "config.json") -> dict[str, Any]:
    """A JSON file beside the tensors; an empty mapping where there is none.

    Raises PomonaError when it is no mapping, and for entries of another type than all programs that
    read them take them for.
    """
    file = folder / name
    if not os.path.lexists(file):
        return {}
    config = read_json(file, finite=False, largest=_SETTINGS)
    _check_entries(config, _KINDS_BY_FILE.get(name, {}), file)
    return config


def _check_entries(config: Mapping[str, Any], kinds: Mapping[str, str], file: Path) -> None:
    for key in kinds.keys() & config.keys():
        wanted, fits = _FITS[kinds[key]]
        value = config[key]
        if value is not None and not fits(value):
            shown = str(value) if not isinstance(value, str) else f'"{value}"'
            message = f'"{key}" is {shown[:60]}, and must be {wanted}'
            raise PomonaError(message, where=file, remedy="correct it, or copy the file again")
        if kinds[key] == "config" and value:
            _check_entries(value, kinds, file)


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 1 << 40


def _number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _entry(value: Any) -> bool:
    """Whether a value is the entry of a token."""
    return isinstance(value, str) or (
        isinstance(value, dict) and isinstance(value.get("content"), str)
    )


_FITS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "layers": ("a whole number from 0 to 100,000", lambda v: _whole(v) and v <= 100_000),
    "count": ("a whole number", _whole),
    "counts": ("a whole number, or a list of them", lambda v: _whole(v) or _counts(v, 1 << 40)),
    "number": ("a number", _number),
    "text": ("text", lambda v: isinstance(v, str)),
    "texts": ("a list of names", _texts),
    "flag": ("true or false", lambda v: isinstance(v, bool)),
    "mapping": ("a mapping", lambda v: isinstance(v, dict)),
    "config": ("a mapping", lambda v: isinstance(v, dict)),
    "ids": (
        "the id of a token, or a list of ids",
        lambda v: type(v) is int or _counts(v, 1 << 40),
    ),
    "token": ("a token, or a mapping with its content", _entry),
    "tokens": (
        "a list of tokens, or a mapping of them",
        lambda v: (
            all(map(_entry, v.values() if isinstance(v, dict) else v))
            if isinstance(v, dict | list)
            else False
        ),
    ),
    "numbered": (
        "a mapping from ids to tokens",
        lambda v: (
            isinstance(v, dict)
            and all(
                re.fullmatch("[0-9]{1,9}", key) and isinstance(e, dict) and _entry(e)
                for key, e in v.items()
            )
        ),
    ),
    "template": (
        "a text, or a list of named ones",
        lambda v: (
            isinstance(v, str | dict)
            or (
                isinstance(v, list)
                and all(
                    isinstance(item, dict) and isinstance(item.get("template"), str) for item in v
                )
            )
        ),
    ),
    "patterns": (
        "a mapping from names to numbers",
        lambda v: isinstance(v, dict) and all(map(_number, v.values())),
    ),
}


def _kinds(**names: str) -> dict[str, str]:
    return {name: kind for kind, listed in names.items() for name in listed.split()}


_IDS = "bos_token_id eos_token_id pad_token_id"
_SPECIAL = "bos_token eos_token pad_token unk_token sep_token cls_token mask_token"
_KINDS_BY_FILE: Mapping[str, Mapping[str, str]] = {
    "config.json": _kinds(
        layers="num_hidden_layers n_layer n_layers num_layers num_decoder_layers encoder_layers "
        "decoder_layers num_experts num_local_experts n_routed_experts",
        count="hidden_size vocab_size max_position_embeddings n_positions n_head n_embd",
        counts="num_attention_heads num_key_value_heads head_dim intermediate_size",
        number="rms_norm_eps layer_norm_eps layer_norm_epsilon rope_theta initializer_range",
        text="model_type torch_dtype dtype",
        texts="architectures",
        flag="tie_word_embeddings use_cache",
        config="text_config vision_config",
        mapping="rope_scaling rope_parameters quantization_config id2label label2id auto_map",
        ids=_IDS,
    ),
    "generation_config.json": _kinds(
        ids=_IDS,
        count="top_k max_length max_new_tokens min_length num_beams",
        number="temperature top_p repetition_penalty",
        flag="do_sample",
    ),
    "tokenizer_config.json": _kinds(
        token=_SPECIAL,
        tokens="additional_special_tokens extra_special_tokens",
        numbered="added_tokens_decoder",
        template="chat_template",
        number="model_max_length",
        text="tokenizer_class",
    ),
    "special_tokens_map.json": _kinds(
        token=_SPECIAL, tokens="additional_special_tokens extra_special_tokens"
    ),
    "adapter_config.json": _kinds(
        text="peft_type base_model_name_or_path",
        number="lora_alpha",
        count="r",
        patterns="rank_pattern alpha_pattern",
        flag="use_rslora use_dora fan_in_fan_out",
    ),
}


_WHOLE = 64 << 20
_BLOCK = 1 << 20
_BLOCKS = 64


def fingerprint(path: Path) -> str:
    """16 hex digits of a SHA-256 over a file or the files of a folder: names, sizes, contents; of
    files over 64 MiB 64 spread blocks.
    """
    digest = hashlib.sha256()
    files = (
        [path]
        if path.is_file()
        else sorted(
            file for file in path.iterdir() if file.is_file() and not file.name.startswith(".")
        )
    )
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name if path.is_dir() else ''}\0{size}\0".encode())
        with open_file(file) as stream:
            if size <= _WHOLE:
                digest.update(stream.read())
                continue
            for block in range(_BLOCKS):
                stream.seek(block * (size - _BLOCK) // (_BLOCKS - 1))
                digest.update(stream.read(_BLOCK))
    return digest.hexdigest()[:16]


def require(*modules: str, extra: str, for_what: str = "for this model") -> None:
    """Raise a PomonaError that says what to install, and for what, where a module is missing."""
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        raise PomonaError(
            f"{' and '.join(missing)} must be installed {for_what}",
            remedy=f"pip install 'pomona[{extra}]'",
        )
