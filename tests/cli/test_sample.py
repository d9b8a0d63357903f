"""`pomona sample` over a real model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pomona.cli import main

Program = Callable[..., subprocess.CompletedProcess[str]]
PROMPT = "<|{lang}|>{english}<|to|>"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = [
        {"english": "Save", "lang": "fr", "translation": "Enregistrer"},
        {"english": "Delete", "lang": "fr", "translation": "Supprimer"},
        {"english": "Search", "lang": "de", "translation": "Suchen"},
        {
            "english": "Please enter a number.",
            "lang": "de",
            "translation": "Bitte eine Zahl eingeben.",
        },
    ]
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_answers_costs_and_pools_are_shown(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    options = [
        "--model",
        "ui-xs",
        "--prompt",
        PROMPT,
        "--max-tokens",
        "16",
        "--reference",
        "translation",
        "--group",
        "lang",
    ]
    assert main(["sample", str(table), "--out", str(out), *options]) == 0
    shown = capsys.readouterr().out
    assert "answered: 4 of 4 rows (4 complete)" in shown
    assert "sample|strategy:hedged5-mbr|models:torch:" in shown
    assert shown.rstrip().endswith(str(out))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["english"] for row in rows] == [
        "Save",
        "Delete",
        "Search",
        "Please enter a number.",
    ]
    assert all(
        len(row["candidates"]) == 5 and row["answer"] == row["candidates"][row["chosen"]]
        for row in rows
    )
    assert main(["sample", str(table), "--out", str(out), *options, "--format", "json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card["details"]["paid"]["completion_tokens"] == 0
    assert [row["group"] for row in card["details"]["pools"]] == ["overall", "de", "fr"]


def test_a_dry_run_and_a_spent_budget(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    options = [
        "sample",
        str(table),
        "--out",
        str(out),
        "--model",
        "ui-xs",
        "--prompt",
        PROMPT,
        "--max-tokens",
        "16",
    ]
    assert main([*options, "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "320 answer tokens" in shown
    assert "nothing was written" in shown
    assert not out.exists()
    assert main([*options, "--budget-tokens", "10"]) == 1
    told = capsys.readouterr()
    assert (
        "the budget of tokens was spent: 4 rows have a smaller pool or no answer; raise it "
        "and run again to go on"
    ) in told.err
    assert out.exists()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ["--strategy", "hedged5-mrb"],
            'error: strategy "hedged5-mrb": there is no part "mrb" — did you mean "mbr"?',
        ),
        (["--budget-money", "1"], "error: --budget-money: a budget of money needs a price"),
        (["--price", "1"], 'error: --price: "1" is no price — write PROMPT,ANSWER'),
        (
            ["--reference", "translations"],
            'there is no column "translations" — did you mean "translation"?',
        ),
    ],
)
def test_wrong_calls_say_why(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], text: str
) -> None:
    assert (
        main(
            [
                "sample",
                str(table),
                "--out",
                str(tmp_path / "o.jsonl"),
                "--model",
                "ui-xs",
                "--prompt",
                PROMPT,
                *options,
            ]
        )
        == 2
    )
    assert text in capsys.readouterr().err


def test_passages_and_tools_are_named_on_the_command_line(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, index = tmp_path / "out.jsonl", tmp_path / "index"
    assert (
        main(
            [
                "sample",
                "index",
                str(table),
                "--column",
                "translation",
                "--source",
                "english",
                "--out",
                str(index),
            ]
        )
        == 0
    )
    assert capsys.readouterr().out == f"4 passages in {index}\n"
    options = [
        "sample",
        str(table),
        "--out",
        str(out),
        "--model",
        "ui-xs",
        "--prompt",
        PROMPT,
        "--max-tokens",
        "8",
        "--strategy",
        "greedy",
    ]
    assert main([*options, "--retrieve", str(index), "--tool", "calculator", "--think"]) == 0
    assert "|context:retrieval,tools,thought|" in capsys.readouterr().out
    assert main([*options, "--retrieve", str(tmp_path / "none")]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
    assert main([*options, "--tool", "calculater"]) == 2
    assert "calculater: is no tool" in capsys.readouterr().err


def test_answers_are_led_by_datastores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = {"to": "Entfernen", "from": "Sammlung"}
    for side, word in words.items():
        texts = [{"text": f"<|de|>Delete{rest}<|to|>{word}"} for rest in ("", " it", " all")]
        (tmp_path / f"{side}.jsonl").write_text("".join(json.dumps(text) + "\n" for text in texts))
        assert (
            main(
                [
                    "sample",
                    "datastore",
                    str(tmp_path / f"{side}.jsonl"),
                    "--out",
                    str(tmp_path / side),
                    "--model",
                    "ui-xs",
                ]
            )
            == 0
        )
        assert "tokens in" in capsys.readouterr().out
    table = tmp_path / "in.jsonl"
    table.write_text(json.dumps({"prompt": "<|de|>Delete<|to|>"}) + "\n")
    options = [
        "--model",
        "ui-xs",
        "--raw",
        "--max-tokens",
        "12",
        "--strategy",
        "greedy",
        "--store",
        str(tmp_path / "store.db"),
    ]
    led = [
        "--steer-to",
        str(tmp_path / "to"),
        "--steer-from",
        str(tmp_path / "from"),
        "--steer-temperature",
        "10",
    ]
    answers = []
    for given in ([], led, [*led, "--steer-strength", "0"]):
        assert (
            main(["sample", str(table), "--out", str(tmp_path / "out.jsonl"), *options, *given])
            == 0
        )
        answers.append(json.loads((tmp_path / "out.jsonl").read_text())["answer"])
    assert answers[0] == answers[2] != answers[1]
    assert (
        main(["sample", "datastore", str(table), "--out", str(tmp_path / "x"), "--model", "ui-xs"])
        == 2
    )
    assert 'there is no column "text"' in capsys.readouterr().err
