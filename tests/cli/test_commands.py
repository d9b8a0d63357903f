"""What each command prints, in this process."""

from __future__ import annotations

import csv
import errno
import functools
import io
import json
from pathlib import Path

import pytest

from pomona import recipe
from pomona.cli import main
from pomona.cli.errors import guarded
from pomona.errors import GateFailed, PomonaError, ResourceError
from pomona.workspace import Lock

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ledgr"], 'error: Unknown command "ledgr". Did you mean "ledger"?'),
        (
            ["run"],
            "error: no recipe is given — pomona run RECIPE, for example examples/quickstart.yaml",
        ),
        (
            ["run", "x.yaml", "--format", "jsn"],
            (
                'error: Invalid value "jsn" for --format. Choose from: "human", "json". Did you '
                'mean "json"?'
            ),
        ),
        (["run", "x.yaml", "--seed", "-1"], 'error: Invalid value "-1" for --seed. Must be >= 0.'),
        (["run", "nowhere/x.yaml"], "error: nowhere/x.yaml: no such recipe — check the path"),
        (["run"], "error: no recipe is given"),
        (
            ["models", "pull", "smollm3"],
            'error: "smollm3" is not a model to pull — did you mean "smollm2"?',
        ),
    ],
)
def test_bad_usage_is_2_and_says_what_is_right(
    arguments: list[str], message: str, capsys: Capture
) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_every_mistake_of_a_recipe_is_a_line(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.yaml").write_text("name: x\ndata: {records: ui}\ntask: {metrc: chrf}\nbase: 5\n")
    assert main(["run", "bad.yaml", "--dry-run"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        'error: bad.yaml, line 3: unknown key "metrc" in task — did you mean "metric"?',
        'error: bad.yaml, line 4: "base" must be text, not 5',
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]


def test_the_schema_is_json(capsys: Capture) -> None:
    assert main(["run", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Recipe"


class FakePlan:
    def rows(self) -> list[dict[str, object]]:
        step = {
            "step": "fine-tune all",
            "state": "to do",
            "flops": 2.5e12,
            "seconds": 83.0,
            "disk": 2.4e6,
            "money": 0.0,
            "prompt_tokens": 0.0,
            "completion_tokens": 0.0,
        }
        done = {"step": "evaluate all", "state": "done", "flops": 0.0, "seconds": 2.0}
        asked = {"prompt_tokens": 300.0, "completion_tokens": 90.0}
        return [step, {**done, **asked, "disk": 0.0, "money": 0.0}]

    def totals(self) -> dict[str, float]:
        asked = {"prompt_tokens": 0.0, "completion_tokens": 0.0}
        return {"flops": 2.5e12, "seconds": 83.0, "disk": 2.4e6, "money": 0.0, **asked}


def test_a_dry_run_lists_steps_and_cost(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr(recipe, "dry_run", lambda *_, **__: FakePlan(), raising=False)
    assert main(["run", "any.yaml", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "fine-tune all" in out and "money" not in out  # nobody is paid
    assert "to do: 2.5×10¹² FLOPs, about 1:23 on one core, 2.4 MB of disk" in " ".join(out.split())
    assert main(["run", "any.yaml", "--dry-run", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["to_do"]["seconds"] == 83.0


def test_a_run_prints_its_ledger_and_page(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    asked = {}

    @functools.wraps(recipe.run)
    def run(progress: recipe.Progress, **given: object) -> Path:
        asked.update(given)
        progress.plan([])
        return run_folder

    monkeypatch.setattr(recipe, "run", run, raising=False)
    assert main(["run", "any.yaml", "--out", "there", "--seed", "3", "--threads", "2"]) == 0
    out = capsys.readouterr().out
    assert "hedged5" in out
    assert out.splitlines()[-1] == str(run_folder / "report.html")
    assert asked == {"recipe": Path("any.yaml"), "out": "there", "seed": 3, "threads": 2}
    assert main(["run", "any.yaml", "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["entries"]) == 6


def test_the_ledger_in_three_formats(run_folder: Path, capsys: Capture) -> None:
    assert main(["ledger", str(run_folder)]) == 0
    assert "overall: chrF against ui-s" in capsys.readouterr().out
    assert main(["ledger", str(run_folder / "ledger.json"), "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 6
    assert (
        main(["ledger", str(run_folder), "--format", "csv", "--group", "fr", "--group", "cy"]) == 0
    )
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["group"] for row in rows] == ["fr", "fr", "cy", "cy"]


def test_a_wrong_run_or_group_names_the_nearest(run_folder: Path, capsys: Capture) -> None:
    for shape in ("human", "json", "csv"):
        assert main(["ledger", str(run_folder), "--group", "overal", "--format", shape]) == 2
        assert (
            capsys.readouterr().err
            == 'error: overal: no entry has this group — did you mean "overall"?\n'
        )
    assert main(["ledger", str(run_folder.with_name("smal"))]) == 2
    assert capsys.readouterr().err.endswith(
        f'there is no such run — did you mean "{run_folder}"?\n'
    )
    (run_folder / "ledger.json").unlink()
    assert main(["report", str(run_folder)]) == 2
    assert "this folder has no ledger.json — finish the run" in capsys.readouterr().err


def test_the_report_is_written_again(
    run_folder: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("report_text", "picture_text"):
        monkeypatch.setattr(
            f"pomona.ledger.report.publishing.{name}", lambda ledger, **_: str(len(ledger.entries))
        )
    assert main(["report", str(run_folder)]) == 0
    paths = [run_folder / "report.html", run_folder / "picture.svg"]
    assert [path.read_text() for path in paths] == ["6", "6"]
    assert capsys.readouterr().out.splitlines() == [str(path) for path in paths]


def test_a_report_shows_what_is_asked_for(run_folder: Path, capsys: Capture) -> None:
    assert main(["report", str(run_folder), "--axis", "tokens", "--bounds"]) == 0
    page = (run_folder / "report.html").read_text(encoding="utf-8")
    assert "extra tokens" in page
    assert main(["report", str(run_folder), "--axis", "watts"]) == 2
    assert 'Choose from: "flops", "money", "tokens", "seconds"' in capsys.readouterr().err


def test_a_run_that_works_is_followed_and_left_alone(run_folder: Path, capsys: Capture) -> None:
    lock = run_folder.with_name(".small.lock")
    with Lock(lock, doing="working in this run", where=run_folder, other="folder"):
        assert main(["report", str(run_folder)]) == 2
        assert (
            capsys.readouterr().err == f"error: {run_folder}: another process is working in this "
            "run — wait for it, or give --watch\n"
        )
    assert main(["report", str(run_folder), "--watch"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "ui-s: chrf 40.00 overall",
        "hedged5: chrf 41.50 overall, +1.50 [+1.00, +2.00] over ui-s",
        str(run_folder / "report.html"),
    ]
    assert main(["report", str(run_folder.with_name("smal")), "--watch"]) == 2
    assert "there is no such run" in capsys.readouterr().err


def test_entries_of_a_run_that_works_are_told_to_be_few(run_folder: Path, capsys: Capture) -> None:
    text = (run_folder / "ledger.json").read_text(encoding="utf-8")
    document = json.loads(text)
    document["meta"]["pending"] = ["ui-m"]
    (run_folder / "ledger.json").unlink()
    (run_folder / "ledger.partial.json").write_text(json.dumps(document), encoding="utf-8")
    assert main(["ledger", str(run_folder), "--format", "json"]) == 0
    told = capsys.readouterr()
    assert len(json.loads(told.out)) == 6
    assert told.err == "warning: the run is not finished, so that entries are missing\n"
    assert main(["ledger", str(run_folder)]) == 0
    assert "warning: the run is not finished; still to come: ui-m" in capsys.readouterr().out


def test_models_are_listed(capsys: Capture) -> None:
    assert main(["models", "list"]) == 0
    assert "smollm2" in capsys.readouterr().out
    assert main(["models", "list", "--format", "json"]) == 0
    assert {"ui-xs", "ui-s", "ui-m", "ui-l", "smollm2"} <= {
        row["name"] for row in json.loads(capsys.readouterr().out)
    }


def test_the_doctor_looks_at_everything(capsys: Capture) -> None:
    code = main(["doctor", "--format", "json"])
    found = {fact["what"]: fact for fact in json.loads(capsys.readouterr().out)}
    assert {
        "Python",
        "pomona",
        "pyarrow",
        "extra torch",
        "cores",
        "threads",
        "device",
        "ui",
        "cache",
        "disk here",
        "telemetry",
    } <= set(found)
    assert found["telemetry"]["value"] == "off"
    assert found["ui"]["state"] == "ok"
    assert code == int(any(fact["state"] == "broken" for fact in found.values()))


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            PomonaError("is empty", where="x.yaml", remedy="fill it"),
            2,
            "error: x.yaml: is empty — fill it\n",
        ),
        (GateFailed("too slow"), 1, "error: too slow\n"),
        (ResourceError("the disk is full"), 1, "error: the disk is full\n"),
        (PomonaError("one\ntwo"), 2, "error: one\nerror: two\n"),
        (PomonaError("bad \x1b[2J name"), 2, "error: bad \ufffd[2J name\n"),
        (KeyboardInterrupt(), 130, "interrupted; the same command goes on with what is finished\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a/b"),
            1,
            "error: the disk is full: a/b — free some space and run again",
        ),
        (
            OSError(errno.ENAMETOOLONG, "File name too long", "a/b"),
            2,
            f"error: [Errno {errno.ENAMETOOLONG}] File name too long: 'a/b' — give another path",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "a/b"),
            2,
            "error: no permission to write or read: a/b — choose another",
        ),
        (MemoryError(), 1, "error: out of memory — "),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            1,
            "error: out of memory — ",
        ),
        (ZeroDivisionError("by zero"), 1, "Traceback (most recent call last):"),
    ],
)
def test_errors_have_a_code_and_a_line(
    error: BaseException, code: int, message: str, capsys: Capture
) -> None:
    def fail() -> None:
        raise error

    assert guarded(fail) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(message)
