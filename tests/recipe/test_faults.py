"""Runs that are killed, damaged or disturbed."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.recipe.runs import Log, edit, without_times

from pomona.errors import PomonaError, ResourceError
from pomona.ledger import Ledger
from pomona.recipe import run
from pomona.recipe.graph import RunFolder, RunInput, Step
from pomona.recipe.running import execute
from pomona.recipe.steps import Cost, Runtime, StepContext
from pomona.recipe.steps.tables import make_table


def test_a_step_whose_input_changes_meanwhile_has_no_result(tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_text("a")

    def work(context: StepContext) -> Cost:
        path.write_text("changed")
        return Cost()

    work.__module__ = "pomona.recipe.steps.tables"
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(PomonaError, match="rows: an input was changed"):
        execute(
            [Step("x", work, {}, {"rows": RunInput("rows", path)})],
            folder,
            Runtime("cpu", 1),
            Log(),
        )
    assert list(folder.steps.iterdir()) == []
    # A new plan in the same process sees the new content.
    old, new = RunInput("rows", path), RunInput("rows", path)
    assert old.key
    path.write_text("again")
    assert new.key != old.key


def test_killed_three_times_gives_the_same_ledger_and_repeats_nothing(
    project: Path, forked: Path
) -> None:
    edit(project, "keep: 0.4", "keep: 0.4, by: {perplexity: [top]}")
    edit(project, "    experts:", "    methods: [linear]\n    experts:")
    script, recipe = Path(__file__).with_name("killed.py"), str(project / "recipe.yaml")
    calls = random.Random().sample(range(1, 14), 3)  # together fewer than the run has
    command = [forked / "python", str(script), recipe, str(project), *map(str, calls)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, (calls, done.stderr[-2000:])
    straight, killed = (
        Ledger.read(project / name / "ledger.json") for name in ("straight", "killed")
    )
    assert without_times(straight) == without_times(killed), calls
    steps = (project / "killed.log").read_text().split("\n")[:-1]
    assert len(steps) == len(set(steps)), calls
    assert not list((project / "killed").rglob("*.partial"))


def test_a_kill_before_a_result_has_its_name_loses_no_kept_checkpoint(
    project: Path, forked: Path
) -> None:
    table = StepContext(
        {"prompt": "{prompt}", "completion": "{completion}", "group": "group", "groups": None}
        | dict.fromkeys(["source", "cluster", "options", "project"])
        | {"where": {}, "per_group": None, "on_error": "stop"},
        {"records-0000": project / "rows.jsonl"},
        project / "items",
        project,
        Runtime(),
        lambda *_: None,
    )
    table.out.mkdir()
    make_table(table)
    script = str(Path(__file__).with_name("killed_marks.py"))
    command = [forked / "python", script, *map(str, (project / "model", table.out, project))]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.stdout.split() == [str(-signal.SIGKILL), "0"], done.stderr[-2000:]
    for name in ("model", "mark-0.25", "mark-0.5"):
        assert (project / "result" / name / "model.safetensors").is_file()


DAMAGES = {
    "evaluate-*/cost.json": ("{}", "`flops` is missing"),
    "evaluate-*/answers.json": (
        '{"flops_per_item": 1, "shape": [], "cut": 0}',
        "`shape`: ",
    ),
    "evaluate-*/statistics.npy": ("", "cannot be read: "),
    "test-items-*/items.parquet": ("PAR1", "cannot be read: "),
    "items-to-look-up-*/counts.json": ('{"de": "many"}', "`de`: Input should be a valid integer"),
    "copy-*/statistics.npy": (None, "cannot be read: "),
    "find-*/neighbours.parquet": ("x", "cannot be read: "),
    "find-*/search.json": ("{}", "`known` is missing"),
    "find-*/serving.json": ("{}", "`flops_per_item` is missing"),
    "sample-*/pools.json": ("[]", "`distinct` is missing"),
    "sample-*/pools.parquet": ("x", "cannot be read: "),
}


@pytest.fixture
def untrained(project: Path) -> Path:
    """A recipe that draws samples and trains nothing."""
    recipe = project / "recipe.yaml"
    text = recipe.read_text().split("train:")[0] + "base: hf:model\n"
    text += "controls: {where: {split: train}}\n"
    recipe.write_text(text + "levers: {sampling: {strategies: [hedged3-mbr]}}\n")
    return recipe


def test_a_damaged_file_of_a_finished_step_is_named_with_the_folder_to_delete(
    project: Path, untrained: Path
) -> None:
    recipe = untrained
    out = run(recipe, project / "run")
    whole = without_times(Ledger.read(out / "ledger.json"))
    file = out
    for pattern, (said, message) in DAMAGES.items():
        file = next((out / "steps").glob(pattern))
        before = file.read_bytes()
        if said is None:
            file.unlink()
        else:
            file.write_text(said)
        for pattern_ in ("choose-*", "answer-by-*"):  # so that what they read is read again
            for chosen in (out / "steps").glob(pattern_):
                shutil.rmtree(chosen)
        with pytest.raises(PomonaError) as caught:
            run(recipe, out)
        assert str(caught.value).startswith(f"{file}: {message}"), caught.value
        assert f" — delete {file.parent} and run again" in str(caught.value)
        file.write_bytes(before)
    shutil.rmtree(file.parent)
    assert without_times(Ledger.read(run(recipe, out) / "ledger.json")) == whole


@pytest.mark.usefixtures("untrained")
def test_a_broken_row_is_named_with_its_line_and_rejected_where_it_is_asked_for(
    project: Path,
) -> None:
    rows = (project / "rows.jsonl").read_text().split("\n")
    test = [at for at, row in enumerate(rows) if '"test"' in row]
    rows[test[0]] = json.dumps({**json.loads(rows[test[0]]), "completion": None})
    rows[test[1]] = json.dumps({**json.loads(rows[test[1]]), "group": None})
    (project / "rows.jsonl").write_text("\n".join(rows))
    remedy = "mend the row, or set such rows aside: on_error: reject under data"
    with pytest.raises(PomonaError, match=rf'row 1: column "completion" is null — {remedy}'):
        run(project / "recipe.yaml", project / "run")
    rows[6] = rows[6][:20]
    (project / "rows.jsonl").write_text("\n".join(rows))
    with pytest.raises(PomonaError, match=rf"rows.jsonl, line 7: .* — {remedy}"):
        run(project / "recipe.yaml", project / "run")
    edit(project, "records: rows.jsonl", "records: rows.jsonl, on_error: reject")
    out = run(project / "recipe.yaml", project / "run")
    assert len(list(out.glob("steps/*/rejects.jsonl"))) == 2
    (told,) = out.glob("steps/test-items-*/rejects.jsonl")
    reasons = [json.loads(line)["reason"] for line in told.read_text().splitlines()]
    assert reasons[0].startswith("not valid JSON")
    assert reasons[1:] == ['column "completion" is null', 'column "group" is null']
    (items,) = out.glob("steps/test-items-*/items.parquet")
    assert pq.read_table(items).num_rows == len(test) - 2
    gone = [json.dumps({**json.loads(row), "completion": None}) for row in rows if '"test"' in row]
    (project / "rows.jsonl").write_text("\n".join(gone))
    says = rf"rows.jsonl: {len(gone)} rows are rejected, and none is left — fill what templates"
    with pytest.raises(PomonaError, match=says):
        run(project / "recipe.yaml", project / "other")


def test_a_truncated_checkpoint_is_named(project: Path) -> None:
    weights = project / "model/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(PomonaError, match=r"model.safetensors.*cut short"):
        run(project / "recipe.yaml", project / "run")


def test_a_full_disk_keeps_what_is_finished(project: Path, small_disk: Path) -> None:
    edit(project, "keep: 0.4", "keep: 0.4, by: {length: [top]}")
    text = (project / "recipe.yaml").read_text()
    (project / "recipe.yaml").write_text(text[: text.index("  merging:")])
    subprocess.run(["mount", "-o", "remount,size=1200k", str(small_disk)], check=True)
    with pytest.raises(
        ResourceError,
        match="the disk is full — free some space and run again: finished steps are kept",
    ):
        run(project / "recipe.yaml", small_disk / "run")
    finished = {p.name for p in (small_disk / "run/steps").iterdir()}
    assert any(name.startswith("evaluate-hf-model") for name in finished)
    assert not any("partial" in name for name in finished)
    subprocess.run(["mount", "-o", "remount,size=200m", str(small_disk)], check=True)
    log = Log()
    run(project / "recipe.yaml", small_disk / "run", progress=log)
    assert len(log.skipped) == len(finished)


def test_two_processes_cannot_work_in_one_run(project: Path) -> None:
    from pomona.recipe.running import locked

    with (
        locked(project / "run"),
        pytest.raises(PomonaError, match="another process is working in this run — wait for it"),
    ):
        run(project / "recipe.yaml", project / "run")
