from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from pomona.cli import main

ASSETS = Path(__file__).parents[2] / "src/pomona/assets"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pomona.merge.report.card._cache_file", lambda: tmp_path / "hashes.json")
    model = sorted(
        folder for folder in ASSETS.iterdir() if (folder / "model.safetensors").is_file()
    )[0]
    for name in ("one", "two"):
        shutil.copytree(model, tmp_path / name)
    models = [{"model": name, "parameters": {"weight": 0.5}} for name in ("one", "two")]
    path = tmp_path / "recipe.yaml"
    path.write_text(
        yaml.safe_dump({"merge_method": "linear", "models": models, "dtype": "bfloat16"})
    )
    return path


def test_a_merge_tells_what_it_did(recipe: Path, capsys: Capture) -> None:
    assert main(["merge", "recipe.yaml", "out", "--threads", "1"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0].endswith(" linear")
    assert lines[1].startswith("read ")
    assert lines[-2] == "merge|method:linear|models:2|seed:0|version:0.1.0"
    assert lines[-1] == str(recipe.parent / "out")
    assert err == ""
    one, merged = (Path(name) / "model.safetensors" for name in ("one", "out"))
    assert one.stat().st_size == pytest.approx(merged.stat().st_size, rel=0.01)


def test_json_and_a_dry_run(recipe: Path, capsys: Capture) -> None:
    assert main(["merge", "recipe.yaml", "out", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "weight one" in shown
    assert shown.splitlines()[-1] == "nothing was written"
    assert not Path("out").exists()
    assert (
        main(["merge", "recipe.yaml", "out", "--format", "json", "--no-report", "--seed", "3"]) == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["written"] is True
    assert told["out"] == str(recipe.parent / "out")
    assert told["signature"].endswith("|seed:3|version:0.1.0")
    assert not Path("out/report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["merge", "nowhere.yaml", "out"], "error: nowhere.yaml"),
        (
            ["merge", "recipe.yaml", "one"],
            (
                "error: {}/one: holds files and is no folder that Pomona made, so it is not "
                "replaced — choose another name"
            ),
        ),
        (
            ["merge", "recipe.yaml", "out", "--memory", "much"],
            'error: --memory: "much" is not a size — write a number of bytes, or "512MiB"',
        ),
        (
            ["merge", "recipe.yaml", "out", "--threads", "0"],
            'error: Invalid value "0" for --threads. Must be >= 1.',
        ),
    ],
)
def test_bad_usage_is_2_and_leaves_nothing(
    recipe: Path, capsys: Capture, arguments: list[str], message: str
) -> None:
    before = sorted(recipe.parent.iterdir())
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message.format(recipe.parent))
    assert sorted(recipe.parent.iterdir()) == before


def test_the_group_has_its_commands(capsys: Capture) -> None:
    assert main(["merge", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(
        word in text for word in ("search", "sweep", "leave-one-out", "--dry-run", "--shard-size")
    )


MERGEKIT = (
    "allow-crimes unsafe-truncate-embeddings transformers-cache lora-merge-cache lora-merge-dtype "
    "cuda device low-cpu-memory out-shard-size copy-tokenizer clone-tensors trust-remote-code "
    "random-seed lazy-unpickle write-model-card safe-serialization verbose quiet read-to-gpu "
    "multi-gpu num-threads gpu-rich async-write write-threads"
)


def test_options_of_mergekit_are_told_what_they_are_here(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in MERGEKIT.split():
        assert main(["merge", "recipe.yaml", "out", f"--{name}"]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"error: --{name} is an option of mergekit — "), said
    line = "merge r.yaml out --cuda --no-copy-tokenizer --out_shard_size=5B --allow-crimes"
    assert main(line.split()) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: --cuda is an option of mergekit — leave it out: merging runs on the processor, as "
        "fast as files are read",
        "error: --no-copy-tokenizer is an option of mergekit — leave it out: the tokenizer always "
        "goes along",
        "error: --out_shard_size is an option of mergekit — give --shard-size, such as --shard-size "
        "5GB",
        "error: --allow-crimes is an option of mergekit — give --allow-mixed",
    ]
    assert main(["merge", "r.yaml", "out", "--allow-mix"]) == 2
    assert "Unknown option: --allow-mix" in capsys.readouterr().err
