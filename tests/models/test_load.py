from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pomona.errors import PomonaError
from pomona.models import CatalogueEntry, Model, catalogue, load, locate
from pomona.models.torch.model import TorchModel


@pytest.fixture
def folder(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints["llama"], tmp_path / "checkpoint"))


def refused(uri: str, text: str) -> None:
    with pytest.raises(PomonaError, match=text):
        load(uri)


def test_importing_is_light() -> None:
    code = (
        "import sys, pomona.models, pomona.models.model; print([m for m in ('torch', "
        "'transformers', 'pyarrow') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
    code = (
        "import sys; from pomona.models import catalogue; catalogue(); print([m for m in "
        "('torch', 'transformers') if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_folder_and_hf_uri_name_the_same_model(folder: Path) -> None:
    assert locate(str(folder)) == locate(f"hf:{folder}") == folder
    texts = [load(uri).generate(["save"])[0][0].text for uri in (str(folder), f"hf:{folder}")]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(("kind", "tied"), [("llama", True), ("grouped", False), ("gpt2", True)])
def test_shape_counts_every_weight_once(
    models: dict[str, TorchModel], kind: str, tied: bool
) -> None:
    shape, network = models[kind].shape, models[kind].network
    assert (shape.layers, shape.hidden, shape.attention, shape.vocabulary) == (2, 32, 32, 320)
    assert shape.embedding == 320 * 32
    assert shape.head == (0 if tied else 320 * 32)
    assert shape.parameters == sum(parameter.numel() for parameter in network.parameters())


def test_arithmetic(folder: Path) -> None:
    for dtype, expected in (
        (None, torch.float32),
        ("mixed", torch.float32),
        ("bfloat16", torch.bfloat16),
    ):
        model = load(str(folder), device="cpu", dtype=dtype)
        assert isinstance(model, TorchModel)
        assert model.network.dtype == expected
    with pytest.raises(PomonaError, match=r'unknown dtype "float23" — did you mean "float32"\?'):
        load(str(folder), dtype="float23")
    with pytest.raises(PomonaError, match=r'device "nowhere" cannot be used: .* — use cpu'):
        load(str(folder), device="nowhere")
    with pytest.raises(PomonaError, match="memory is 0 bytes"):
        load(str(folder), memory=0)


def test_names_that_mean_nothing() -> None:
    refused("ui-z", r'unknown model "ui-z" — did you mean "ui-[a-z]+"\? Supported: hf:PATH_OR_ID')
    refused("smollm", 'did you mean "smollm2"')
    refused("hf:/no/such/place", "/no/such/place: no such folder")
    refused("./nowhere", "nowhere: no such folder")
    refused("a" * 5000, 'unknown model "a')
    refused("gguf:" + "a" * 5000, "no such file")
    refused("~nobody-here/model", "~nobody-here/model: no such folder")
    refused("hf:a\0b", "no such folder")
    with pytest.raises(
        PomonaError, match=r"behind a server .* have no checkpoint here — supported:"
    ):
        load("http://localhost:1/v1#a", need={"score"})
    refused("http://localhost:1/v1", "names no server and model")
    refused("gguf:/no/such.gguf", "/no/such.gguf: no such file")


def test_models_that_are_not_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("pomona.models.locating._ASSETS", tmp_path)
    refused("ui-s", 'model "ui-s" is not on this machine')
    refused("smollm2", "run `pomona models pull smollm2`")
    entries = {entry.name: entry for entry in catalogue()}
    assert list(entries)[:4] == ["ui-xs", "ui-s", "ui-m", "ui-l"]
    assert {"ui-s@10", "ui-s@20", "ui-s@40", "ui-s@80", "smollm2"} < set(entries)
    assert not any(entry.present for entry in entries.values())
    assert entries["ui-s"].parameters is None
    assert entries["smollm2"].parameters == 134_515_008


def test_a_catalogue_model_that_is_here(
    folder: Path, model: TorchModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pomona.models.locating._ASSETS", tmp_path)
    folder.rename(tmp_path / "ui-s@10")
    (entry,) = [entry for entry in catalogue() if entry.present]
    assert isinstance(entry, CatalogueEntry)
    assert (entry.name, entry.parameters) == ("ui-s@10", model.shape.parameters)
    assert entry.size == sum(file.stat().st_size for file in entry.where.iterdir())
    assert locate("ui-s@10") == entry.where
    assert load("ui-s@10").generate(["save"])[0][0].text == model.generate(["save"])[0][0].text


@pytest.mark.parametrize("keep", [0, 7, 300, -1])
def test_weights_cut_short(folder: Path, keep: int) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    refused(
        str(folder),
        r"model\.safetensors: is cut short: .* bytes.* — copy or download it again",
    )


def test_weights_that_are_something_else(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((5).to_bytes(8, "little") + b"hello")
    refused(str(folder), r"model\.safetensors: is not a safetensors file")


def test_pickles_are_never_loaded(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    refused(
        str(folder),
        r"checkpoint: holds no \*\.safetensors file — save the model with model.save_pretrained",
    )
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch /tmp/pickled'\ntR.")
    refused(
        str(folder),
        (
            r"holds its weights only as pickle \(pytorch_model.bin\), and loading a pickle can "
            r"run any code"
        ),
    )


def test_missing_files(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    refused(str(folder), "checkpoint: has no tokenizer — put one of tokenizer.json")
    (folder / "config.json").write_text("{")
    refused(str(folder), r"config\.json: is not JSON")
    (folder / "config.json").unlink()
    refused(str(folder), r"config\.json: is missing")
    (folder / "model.gguf").write_bytes(b"GGUF")
    refused(str(folder / "model.gguf"), "is a GGUF file — write gguf:")


def test_a_shard_that_is_missing(folder: Path) -> None:
    index = {"metadata": {}, "weight_map": {"a": "model-1.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(str(folder), r"index\.json: names model-1\.safetensors, which is not there")


def test_code_in_a_checkpoint_is_not_run(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "strange",
        "auto_map": {"AutoConfig": "code.C", "AutoModelForCausalLM": "code.M"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('ran')")
    refused(str(folder), "checkpoint: cannot be loaded: ")


def test_weights_that_do_not_fit(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    refused(
        str(folder), r"9 weights are missing or have the wrong shape, the first is model\.layers\.2"
    )
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 300}))
    refused(str(folder), "checkpoint: (cannot be loaded|.* wrong shape)")


def test_a_tokenizer_that_does_not_fit(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["added_tokens"] += [
        dict(tokenizer["added_tokens"][0], id=500 + i, content=f"<|{i}|>") for i in range(100)
    ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    model = load(str(folder))
    assert len(model.score(["save"], ["page"])[0]) > 0
    with pytest.raises(
        PomonaError,
        match=(
            r"text 'save<\|99\|>': the tokenizer gives token \d+, but the model has 320 "
            r"embeddings"
        ),
    ):
        model.generate(["save<|99|>"])


def test_chat(folder: Path) -> None:
    with pytest.raises(
        PomonaError,
        match=(
            r"a chat needs a chat template, and the tokenizer has none — ask it without --chat, or "
            r"in Python with chat=False"
        ),
    ):
        load(str(folder), chat=True)
    template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}{% if "
        "add_generation_prompt %}<|to|>{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(template)
    chat, plain = load(str(folder), chat=True), load(str(folder))
    same = [chat.generate(["save"])[0][0], plain.generate(["user: save<|to|>"])[0][0]]
    assert same[0].token_ids.tolist() == same[1].token_ids.tolist()
    assert (
        chat.score(["save"], ["page"])[0].tolist()
        == plain.score(["user: save<|to|>"], ["page"])[0].tolist()
    )


def test_a_model_without_reply_and_each_says_that_it_cannot_generate() -> None:
    mute = type("Mute", (Model,), {"name": "mute"})()
    with pytest.raises(PomonaError, match='mute: cannot "generate"'):
        mute.generate(["a"])
