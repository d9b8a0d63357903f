"""The recipe of LoRA: what it would take of a large model, and that a killed one goes on."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from pomona.markers import apply, read_trained, tag

ROOT = Path(__file__).parents[2]
LLAMA = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "vocab_size": 128256, "max_position_embeddings": 131072, "tie_word_embeddings": False,
}  # fmt: skip
TAXONOMY = "markers:\n  lang: {kind: values, column: lang, values: [de, fr]}\n"


@pytest.fixture(scope="module")
def recipe() -> Any:
    spec = importlib.util.spec_from_file_location("lora", ROOT / "examples/lora_markers.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["lora"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(recipe: Any, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["lora_markers.py", *line.split()])
    recipe.main()


def test_a_model_of_eight_billion_is_sized_without_its_weights(
    recipe: Any, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("llama").mkdir()
    Path("llama/config.json").write_text(json.dumps(LLAMA))
    line = "rows out --dry-run --model llama --dtype bfloat16 --batch-tokens 8192 --tokens 30000 --rank"
    ran(recipe, f"{line} 16", monkeypatch)
    told = capsys.readouterr().out
    # Llama 3.1 8B has 8,030,261,248 weights; an adapter of rank 16 beside all but the output's
    # 41,943,040, as PEFT counts.
    assert "8,030,261,248, and 41,943,040 (0.52%) in the adapter" in told
    assert "34.9 GB at most: 16.1 of weights, 0.67 of the adapter" in told
    # Three times forward without gradients of weights: 6 × 7.5e9 operations for each of 30,000.
    assert "1.34e+15 FLOPs for 30,000 tokens" in told
    ran(recipe, f"{line} 32", monkeypatch)
    assert "83,886,080" in capsys.readouterr().out
    assert [*here.iterdir()] == [here / "llama"]


def test_what_cannot_be_trained_on_is_told(
    recipe: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    for name in ("mine", "theirs.work"):
        Path(name).mkdir()
        Path(name, "README.md").write_text("notes")
    for line, said in {
        "rows.jsonl mine": "mine: holds files and is no folder that Pomona made",
        "rows.jsonl theirs": "theirs.work: holds files and is no work folder",
        "rows.jsonl new": "rows.jsonl: has no rows in the training form",
        "none.jsonl new": "none.jsonl: no such file",
        "rows.jsonl new --dry-run --model ui-z": 'unknown model "ui-z"',
    }.items():
        with pytest.raises(SystemExit, match=said):
            ran(recipe, line, monkeypatch)
    assert not Path("new.work").exists() and not Path("theirs").exists()
    for name in ("mine", "theirs.work"):
        assert [one.read_text() for one in Path(name).iterdir()] == ["notes"]


def test_a_killed_training_goes_on_and_the_adapter_answers_with_lists(
    recipe: Any, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peft = pytest.importorskip("peft")  # not in the lock: see the Makefile
    Path("own.yaml").write_text(TAXONOMY)
    rows = [
        {"prompt": f"<|{lang}|>Save {at}<|to|>", "completion": f"x {at}", "lang": lang}
        for at in range(40)
        for lang in ("de", "fr")
    ]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tag("in.jsonl", "tagged.parquet", taxonomy="own.yaml")
    apply("tagged.parquet", "rows.parquet", taxonomy="own.yaml", form="compact")
    line = ("--model ui-xs --tokens 3000 --batch-tokens 256 --save-every 2 --ask 2 --rank 8 "
            "--rate 0.01 --dtype float32")  # fmt: skip
    ran(recipe, f"rows.parquet whole {line}", monkeypatch)
    answers = [json.loads(one) for one in capsys.readouterr().out.splitlines() if one[0] == "{"]
    assert [one["inferred"] for one in answers] == [{"lang": "de"}, {"lang": "fr"}]

    class Killed(BaseException): ...

    real = recipe.fit

    def killed(*args: Any, progress: Any, **options: Any) -> Any:
        def stop(done: int, steps: int) -> None:
            if done == 5:
                raise Killed

        return real(*args, progress=stop, **options)

    monkeypatch.setattr(recipe, "fit", killed)
    with pytest.raises(Killed):
        ran(recipe, f"rows.parquet again {line}", monkeypatch)
    monkeypatch.setattr(recipe, "fit", real)
    with pytest.raises(SystemExit, match="is of a training with another rank"):
        ran(recipe, f"rows.parquet again {line} --rank 4", monkeypatch)
    ran(recipe, f"rows.parquet again {line}", monkeypatch)
    files = [Path(name, "adapter_model.safetensors").read_bytes() for name in ("whole", "again")]
    assert files[0] == files[1]
    assert read_trained("again").form == "compact" and not Path("again.work").exists()
    assert peft.PeftConfig.from_pretrained("again").r == 8
    with pytest.raises(SystemExit, match="again: is there already"):
        ran(recipe, f"rows.parquet again {line}", monkeypatch)
