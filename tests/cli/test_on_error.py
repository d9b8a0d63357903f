"""Every command that reads rows stops at a bad one, or leaves it out when that is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pomona.cli import main
from pomona.errors import PomonaError, quantity
from pomona.records import malformed_rows, read

Row = dict[str, Any]


def rows(name: str, *many: Row, bad: Row | None = None) -> None:
    """A file with these rows, a malformed line and a row that lacks something."""
    lines = [json.dumps(row) for row in many]
    Path(name).write_text(
        "\n".join([*lines[:1], "nope", *([json.dumps(bad)] if bad else []), *lines[1:]])
    )


def votes() -> None:
    many = [{"model_a": "x", "model_b": "y", "winner": won} for won in ("x", "y", "x", "tie", "x")]
    rows("in.jsonl", *many, bad=many[0] | {"winner": None})


def answers() -> None:
    many = [{"id": str(i), "prediction": "a", "reference": "a"} for i in range(4)]
    rows("in.jsonl", *many, bad={"id": "7", "prediction": None, "reference": "a"})
    rows(
        "b.jsonl",
        *(row | {"prediction": "b"} for row in many),
        bad={"id": None, "prediction": "b", "reference": "a"},
    )


def system() -> None:
    many = [{"id": str(i), "prompt": "?", "completion": f"answer {i}"} for i in range(3)]
    rows("in.jsonl", *many, bad={"id": "9", "prompt": None, "completion": "x"})
    rows("b.jsonl", *(row | {"completion": "other"} for row in many))


def steps() -> None:
    many = [
        {"id": str(i), "step": str(step), "prediction": "a", "reference": "a", "group": "g"}
        for i in range(3) for step in (1, 2)
    ]  # fmt: skip
    rows("in.jsonl", *many, bad=many[0] | {"id": None})


def routed() -> None:
    many = [
        {"id": row, "text": row, "lang": "af", "teacher": who, "answer": row + who}
        for row in "abcde" for who in ("one", "once", "two")
    ]  # fmt: skip
    rows("in.jsonl", *many, bad=many[0] | {"answer": None})


def asked() -> None:
    rows("in.jsonl", *({"prompt": f"word {i}"} for i in range(3)), bad={"prompt": None})


def mixed() -> None:
    rows("in.jsonl", *({"text": "a", "n": 1.0} for _ in range(4)), bad={"text": "b", "n": None})
    Path("mix.yaml").write_text("inputs: {a: in.jsonl}\nsize: n\n")


def runs() -> None:
    many = [
        {"params": n, "tokens": d, "loss": 2 + 400 / n**0.35 + 400 / d**0.35}
        for n in (1e6, 4e6, 9e6) for d in (1e8, 5e8, 2e9)
    ]  # fmt: skip
    rows("in.jsonl", *many)


def targets() -> None:
    many = [{"id": str(i), "lang": "de", "text": f"text {i}"} for i in range(4)]
    rows("in.jsonl", *many)
    Path("t.yaml").write_text("training: {rows: in.jsonl}\nrows: 5\n")


def synthesis() -> None:
    many = [{"id": str(i), "lang": "de", "text": f"text {i}"} for i in range(4)]
    rows("in.jsonl", *many, bad=many[0] | {"id": None})
    rows("b.jsonl", {"text": "no copy of these"}, {"text": "nor of these words"})
    Path("s.yaml").write_text(
        "data: {rows: in.jsonl, id: id}\ntest: [{rows: b.jsonl}]\n"
        "teachers: {up: {program: [tr, a-z, A-Z]}}\n"
    )


CASES: dict[str, tuple[Callable[[], None], int, int]] = {
    "arena fit in.jsonl": (votes, 2, 0),
    "arena audit in.jsonl": (votes, 2, 0),
    "arena pairs in.jsonl b.jsonl --out o.parquet": (system, 2, 1),
    "forget compare in.jsonl b.jsonl": (answers, 2, 2),
    "forget check in.jsonl b.jsonl --max-flips 100": (answers, 2, 2),
    "forget order in.jsonl": (steps, 2, 0),
    "synth route in.jsonl --out w": (routed, 2, 0),
    "sample index in.jsonl --column prompt --out i": (asked, 2, 0),
    "data mix mix.yaml --out o.parquet": (mixed, 2, 0),
    "scale fit in.jsonl": (runs, 1, 0),
    "synth targets t.yaml --out o": (targets, 1, 0),
    "synth run s.yaml --out o": (synthesis, 2, 1),
}


@pytest.mark.parametrize("line", CASES)
def test_bad_rows_stop_or_are_left_out(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make, left_out, other = CASES[line]
    make()
    words = line.split()
    assert main(words) == 2
    assert "in.jsonl, line 2: not valid JSON" in capsys.readouterr().err
    assert main([*words, "--on-error", "reject"]) == 2
    assert "go together" in capsys.readouterr().err
    assert main([*words, "--rejects", "r.jsonl"]) == 2
    assert "--on-error reject" in capsys.readouterr().err
    if "--out" not in words:
        assert main([*words, "--on-error", "drop"]) == 0
        told = capsys.readouterr().err
        rows = quantity(left_out, "row")
        assert f"left out of in.jsonl: {rows}, malformed or without a value" in told
    assert main([*words, "--on-error", "reject", "--rejects", "r.jsonl"]) == 0, (
        capsys.readouterr().err
    )
    assert read("r.jsonl").count() == left_out
    others = list(Path().glob("r.*.jsonl"))
    assert [read(path).count() for path in others] == ([other] if other else [])


def test_a_block_is_for_files_that_are_not_told_another_way(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"n": 1}\nnope\n{"n": null}\n')
    with malformed_rows("drop") as policy:
        rows = read(path)
        assert (rows.count(), rows.complete("n").count(), rows.complete("n").rejected) == (2, 1, 2)
        assert policy.left_out == {str(path): 2} and read(path) is rows
    with pytest.raises(PomonaError, match="not valid JSON"):
        read(path).count()
    with pytest.raises(PomonaError, match="go together"), malformed_rows("reject"):
        pass
