"""The head of a checkpoint is untrusted: whatever stands in it, a folder is read or refused by name,
at once.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from pomona.errors import PomonaError
from pomona.models.checkpoint import INDEX, check, read_config, read_header, tensor_places
from pomona.models.locating import gguf_header

PLACE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(file: Path, header: Any, data: bytes = b"\0" * 16) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return file


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (b"{", "is not a safetensors file: its header is not JSON"),
        (b"[]", "is not an object of JSON"),
        (b"null", "is not an object of JSON"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b'{"a\\ud800": {}}', "it holds half a character"),
        (b'{"a": {}, "a": {}}', "the key \"a\" was already given"),
        ({"a": []}, 'tensor "a" is of type None'),
        ({"a": {**PLACE, "dtype": []}}, r'tensor "a" is of type \[\]'),
        ({"a": {**PLACE, "dtype": "F33"}}, 'tensor "a" is of type F33; known types: F64, '),
        ({"a": {**PLACE, "shape": 2}}, 'tensor "a" has the shape 2'),
        ({"a": {**PLACE, "shape": [True, 2]}}, r'tensor "a" has the shape \[True, 2\]'),
        ({"a": {**PLACE, "shape": [2.0]}}, r'tensor "a" has the shape \[2\.0\]'),
        ({"a": {**PLACE, "shape": [-2, -1]}}, r'tensor "a" has the shape \[-2, -1\]'),
        ({"a": {**PLACE, "shape": [0, 10**30]}}, r'tensor "a" has the shape \[0, 10'),
        ({"a": {**PLACE, "shape": [1] * 40}}, 'tensor "a" has the shape'),
        ({"a": {**PLACE, "data_offsets": [0.0, 8.0]}}, r'tensor "a" is at \[0\.0, 8\.0\]'),
        ({"a": {**PLACE, "data_offsets": [False, 8]}}, r'tensor "a" is at \[False, 8\]'),
        ({"a": {**PLACE, "data_offsets": [-8, 0]}}, r'tensor "a" is at \[-8, 0\]'),
        ({"a": {**PLACE, "data_offsets": [8, 0]}}, r'tensor "a" is F32 \[2\] in -8 bytes'),
        ({"a": {**PLACE, "data_offsets": [0, 8, 16]}}, 'tensor "a" is at'),
        ({"a": {**PLACE, "data_offsets": [0, 12]}}, r'tensor "a" is F32 \[2\] in 12 bytes'),
        ({"a": {**PLACE, "data_offsets": [10**30, 10**30 + 8]}}, 'tensor "a" is at'),
        ({"a": PLACE, "b": {**PLACE, "data_offsets": [4, 12]}}, 'tensors "a" and "b" overlap'),
        ({"a": {**PLACE, "data_offsets": [16, 24]}}, "is cut short: .* bytes"),
    ],
)  # fmt: skip
def test_a_header_that_is_none_is_refused_by_file_and_tensor(
    tmp_path: Path, header: Any, says: str
) -> None:
    file = write(tmp_path / "model.safetensors", header)
    with pytest.raises(PomonaError, match=rf"model\.safetensors: .*{says}.* — copy or download"):
        read_header(file)


@pytest.mark.parametrize("data", [b"", b"\1", b"\xff" * 20, (1 << 30).to_bytes(8, "little")])
def test_what_is_no_safetensors_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.safetensors").write_bytes(data)
    with pytest.raises(PomonaError, match=r"a\.safetensors: is (cut short|not a safetensors file)"):
        read_header(tmp_path / "a.safetensors")


def test_a_pipe_or_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(PomonaError, match=r"model\.safetensors: .*it is a pipe, not a file"):
        tensor_places(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(PomonaError, match=r"model\.safetensors: cannot be read: Is a directory"):
        tensor_places(tmp_path)
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(PomonaError, match=r"config\.json: cannot be read: it is a pipe"):
        check(tmp_path)


@pytest.mark.parametrize(
    ("index", "says"),
    [
        ([], "is not an object"),
        ({}, 'has no "weight_map"'),
        ({"weight_map": {}}, 'has no "weight_map"'),
        ({"weight_map": []}, 'has no "weight_map"'),
        ({"weight_map": {"a": 5}}, r'"a" is in .5., and a shard is a file of this folder'),
        ({"weight_map": {"a": "../b"}}, "a shard is a file of this folder"),
        ({"weight_map": {"a": "x" * 300}}, "a shard is a file of this folder"),
        ({"weight_map": {"a": "no.safetensors"}}, r"names no\.safetensors, which is not there"),
        (
            {"weight_map": {"a": "1.safetensors", "b": "1.safetensors"}},
            r'1\.safetensors: has no tensor "b", which model\.safetensors\.index\.json says it',
        ),
        (
            {"weight_map": {"c": "1.safetensors"}},
            r'1\.safetensors: holds tensor "a", and model\.safetensors\.index\.json does not name',
        ),
        (
            {"weight_map": {"a": "2.safetensors"}},
            r'2\.safetensors: holds tensor "d", and .* does not name it',
        ),
        (
            {"weight_map": {"a": "2.safetensors", "d": "1.safetensors"}},
            r'1\.safetensors: holds tensor "a", and .* names 2\.safetensors for it',
        ),
    ],
)
def test_index_and_shards_agree(tmp_path: Path, index: Any, says: str) -> None:
    write(tmp_path / "1.safetensors", {"a": PLACE})
    write(tmp_path / "2.safetensors", {"d": PLACE})
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(PomonaError, match=says):
        tensor_places(tmp_path)


@pytest.mark.parametrize(
    ("name", "config", "says"),
    [
        ("config.json", "{", "is not JSON"),
        ("config.json", "[]", "is not an object"),
        ("config.json", {"num_hidden_layers": "16"}, '"num_hidden_layers" is "16", and must be'),
        ("config.json", {"num_hidden_layers": 10**9}, "a whole number from 0 to 100,000"),
        ("config.json", {"architectures": 5}, '"architectures" is 5, and must be a list of names'),
        ("config.json", {"model_type": []}, r'"model_type" is \[\], and must be text'),
        ("config.json", {"text_config": []}, r'"text_config" is \[\], and must be a mapping'),
        ("config.json", {"text_config": {"vocab_size": "5"}}, '"vocab_size" is "5"'),
        ("config.json", {"eos_token_id": "16"}, '"eos_token_id" is "16", and must be the id'),
        ("generation_config.json", {"eos_token_id": ["1"]}, '"eos_token_id" is .*a list of ids'),
        ("generation_config.json", {"temperature": "hot"}, '"temperature" is "hot"'),
        ("tokenizer_config.json", {"added_tokens_decoder": []}, "a mapping from ids to tokens"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {}}}, "from ids to tokens"),
        ("tokenizer_config.json", {"chat_template": 5}, '"chat_template" is 5, and must be a text'),
        ("tokenizer_config.json", {"bos_token": {"id": 1}}, '"bos_token" is .* with its content'),
        ("special_tokens_map.json", {"eos_token": 5}, '"eos_token" is 5, and must be a token'),
        ("adapter_config.json", {"lora_alpha": "16"}, '"lora_alpha" is "16", and must be a number'),
        ("adapter_config.json", {"alpha_pattern": {"q": "1"}}, "from names to numbers"),
    ],
)
def test_entries_of_another_type_are_told_by_file_and_key(
    tmp_path: Path, name: str, config: Any, says: str
) -> None:
    text = config if isinstance(config, str) else json.dumps(config)
    (tmp_path / name).write_text(text)
    with pytest.raises(PomonaError, match=rf"{name}: .*{says}"):
        read_config(tmp_path, name)


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "BF16", "I64", "F4", "F8_E4M3", "BOOL"]) | JSON,
        "shape": st.lists(st.integers(-1, 4) | JSON, max_size=3) | JSON,
        "data_offsets": st.lists(st.integers(-1, 20), min_size=2, max_size=2) | JSON,
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.text(max_size=4), ENTRY | JSON, max_size=3) | JSON | st.binary())
def test_any_header_is_read_or_refused(tmp_path: Path, header: Any) -> None:
    file = write(tmp_path / "model.safetensors", header)
    started = time.process_time()
    try:
        for place in read_header(file).values():
            assert 0 < place.offset <= place.offset + place.size <= file.stat().st_size
    except PomonaError as error:
        assert str(error).startswith(f"{file}: ")
    assert time.process_time() - started < 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.integers(0, 3), st.integers(0, 3))
def test_any_gguf_is_read_or_refused(
    tmp_path: Path, data: bytes, tensors: int, values: int
) -> None:
    file = tmp_path / "a.gguf"
    counts = tensors.to_bytes(8, "little") + values.to_bytes(8, "little")
    file.write_bytes(b"GGUF\3\0\0\0" + counts + data)
    try:
        gguf_header(file)
    except PomonaError as error:
        assert str(error).startswith(f"{file}: is not a whole GGUF file")


def test_a_config_that_transformers_cannot_take_is_no_traceback(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    from pomona.models import load

    folder = Path(shutil.copytree(checkpoints["llama"], tmp_path / "m"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": 5}))
    with pytest.raises(PomonaError, match="m: cannot be loaded"):
        load(str(folder))
    for key, value, says in (
        ("num_hidden_layers", 5000, "asks for 5,000 layers, and the weights have 2"),
        ("hidden_size", 1 << 20, r"asks for matrices of 320 × 1,048,576, and the largest"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, key: value}))
        with pytest.raises(PomonaError, match=f"m: config.json {says}"):
            load(str(folder))
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text('{"model": 5}')
    with pytest.raises(PomonaError, match="m: its tokenizer cannot be loaded"):
        load(str(folder))


def test_a_tokenizer_at_which_rust_gives_up_is_refused(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    from pomona.models import load

    folder = Path(shutil.copytree(checkpoints["llama"], tmp_path / "m"))
    data = json.loads((folder / "tokenizer.json").read_text())
    # The end of a merge is searched for behind as many bytes as its halves' marks have.
    data["model"] |= {"continuing_subword_prefix": "x" * 9, "merges": [["a", "b"]]}
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(PomonaError, match="m: its tokenizer cannot be loaded"):
        load(str(folder))


def test_an_adapter_is_no_checkpoint_and_what_makes_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(
        PomonaError, match=r"this is an adapter: make a checkpoint of MODEL\+ADAPTER"
    ):
        check(tmp_path)
