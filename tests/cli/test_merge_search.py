"""`pomona merge search`, `sweep` and `leave-one-out` on small models, in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from pomona.cli import main
from pomona.records import read

ASSETS = Path(__file__).parents[2] / "src/pomona/assets"
Capture = pytest.CaptureFixture[str]
RECIPE = """\
merge_method: linear
models:
  - {model: one, parameters: {weight: {search: [0, 1], name: alpha}}}
  - {model: two, parameters: {weight: 0.5}}
"""
SEARCH = """\
search:
  {method: grid, trials: 3, records: rows.jsonl, valid: {where: {split: valid}}, test: {where: {split: test}}}
"""
REASONS = [
    "not valid JSON: expecting value, at column 1",
    'column "completion" is null',
    'column "completion" is empty',
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two models, a recipe with a free weight, and rows to judge by."""
    tokenizer: Any = AutoTokenizer.from_pretrained(ASSETS / "ui-tokenizer")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        tie_word_embeddings=True,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
    )
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    rows = [
        {"prompt": f"page {n} ", "completion": f"Seite {n}", "split": ("valid", "test")[n % 2]}
        for n in range(8)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "merge.yaml").write_text(RECIPE)
    (tmp_path / "search.yaml").write_text(RECIPE + SEARCH)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(capsys: Capture, *arguments: object) -> Any:
    """What a command says as JSON."""
    assert main(["merge", *map(str, arguments), "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_search_writes_the_best_and_a_ledger_to_print(project: Path, capsys: Capture) -> None:
    told = said(capsys, "search", "search.yaml", "best", "--seed", "1")
    assert (told["trials"], told["metric"]) == (3, "loss")
    assert told["values"]["alpha"] in (0, 0.5, 1)
    assert {path.name for path in (project / "best").iterdir()} >= {
        "model.safetensors",
        "search.json",
        "ledger.json",
        "search.html",
    }
    assert main(["ledger", "best"]) == 0
    assert "searched" in capsys.readouterr().out
    assert main(["merge", "search", "search.yaml", "best"]) == 2
    assert "best: is there already" in capsys.readouterr().err
    assert main(["merge", "search", "search.yaml", "best", "--overwrite"]) == 0
    assert "alpha = " in capsys.readouterr().out


def test_a_dry_search_tells_what_it_would_cost(project: Path, capsys: Capture) -> None:
    before = sorted(project.rglob("*"))
    assert main(["merge", "search", "search.yaml", "best", "--dry-run", "--trials", "5"]) == 0
    text = capsys.readouterr().out
    assert "grid: at most 5 trials over alpha" in text
    assert "scores 4 validation items; the best is tested on 4" in text
    assert "FLOPs a trial" in text
    assert sorted(project.rglob("*")) == before


def test_bad_items_stop_a_search_or_are_left_out(project: Path, capsys: Capture) -> None:
    path, good = Path("rows.jsonl"), Path("rows.jsonl").read_text()
    bad = ['{"prompt": "p", "completion": null, "split": "test"}', "nope"]
    bad.append('{"prompt": "p", "completion": " ", "split": "valid"}')
    path.write_text(good + "\n".join(bad) + "\n")
    search = ["merge", "search", "search.yaml", "best"]
    assert main(search) == 2
    told = capsys.readouterr().err
    assert "rows.jsonl, line 10: not valid JSON" in told
    reject = ["--on-error", "reject", "--rejects", "r.jsonl"]
    before = sorted(project.rglob("*"))
    assert main([*search, "--dry-run", *reject]) == 0
    told = capsys.readouterr()
    assert "scores 4 validation items; the best is tested on 4" in told.out
    assert "left out of rows.jsonl: 3 rows" in told.err
    assert sorted(project.rglob("*")) == before
    assert main([*search, *reject]) == 0
    assert read("r.jsonl").to_table()["reason"].to_pylist() == REASONS
    trials = [(name, Path("best", name).read_bytes()) for name in ("search.json", "ledger.json")]
    capsys.readouterr()
    one_out = ["merge", "leave-one-out", "search.yaml", "s", "--set", "alpha=1"]
    assert main([*one_out, "--on-error", "drop"]) == 0
    assert "left out of rows.jsonl: 3 rows" in capsys.readouterr().err
    assert main([*search, "--rejects", "best/r.jsonl", "--on-error", "reject"]) == 2
    path.write_text(good)
    assert main([*search, "--overwrite"]) == 0
    told = json.loads(dict(trials)["search.json"])["values"]
    assert json.loads(Path("best/search.json").read_text())["values"] == told


def test_sweep_makes_a_folder_for_each_value(project: Path, capsys: Capture) -> None:
    told = said(capsys, "sweep", "merge.yaml", "out", "--set", "alpha=0,0.25,1")
    assert [row["alpha"] for row in told] == [0, 0.25, 1]
    assert {path.name for path in (project / "out").iterdir()} == {
        "alpha=0",
        "alpha=0.25",
        "alpha=1",
    }
    assert main(["merge", "sweep", "merge.yaml", "more", "--set", "alpha=2", "--dry-run"]) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert not (project / "more").exists()


def test_leave_one_out_writes_merges_or_scores_them(project: Path, capsys: Capture) -> None:
    told = said(capsys, "leave-one-out", "merge.yaml", "out", "--set", "alpha=1")
    assert [row["merge"] for row in told] == ["all", "without-one", "without-two"]
    assert all((Path(row["folder"]) / "model.safetensors").is_file() for row in told)
    told = said(capsys, "leave-one-out", "search.yaml", "scores", "--set", "alpha=1")
    assert [(row["expert"], row["group"]) for row in told["matrix"]] == [
        ("one", "overall"),
        ("two", "overall"),
    ]
    assert main(["merge", "leave-one-out", "search.yaml", "again", "--set", "alpha=1"]) == 0
    assert "what each expert brings, in loss; positive is better" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", "merge.yaml", "out"], "sweep: no value is set — give --set NAME=0,0.5,1"),
        (["sweep", "merge.yaml", "out", "--set", "alpha"], '--set: "alpha" is not NAME=VALUE'),
        (
            ["sweep", "merge.yaml", "out", "--set", "alpha=a"],
            '--set alpha: "a" is not a finite number',
        ),
        (["leave-one-out", "merge.yaml", "out"], 'the free parameter "alpha" has no value'),
        (["search", "merge.yaml", "out"], "search: is missing"),
        (["search", "marge.yaml", "out"], "marge.yaml: no such recipe — did you mean"),
    ],
)
def test_mistakes_are_one_line(
    project: Path, capsys: Capture, arguments: list[str], message: str
) -> None:
    assert main(["merge", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (project / "out").exists()
