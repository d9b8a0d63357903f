import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pomona.errors import PomonaError, ResourceError
from pomona.files import write_json
from pomona.workspace import Lock, Workspace, disk_guard, is_full, room_on_disk

PLAN = {"seed": 1, "sizes": (1, 2), "name": "a"}


def lock(tmp_path: Path) -> Lock:
    return Lock(tmp_path / "work" / "lock", doing="at work", where=tmp_path / "out", other="name")


def test_a_lock_is_for_one_at_a_time(tmp_path):
    with lock(tmp_path):
        with pytest.raises(
            PomonaError,
            match=r"out: another process is at work — wait for it, or choose another name",
        ):
            lock(tmp_path)
        script = (
            "import sys, pathlib; from pomona.workspace import Lock; p = "
            "pathlib.Path(sys.argv[1]); "
            "Lock(p, doing='x', where=p, other='y')"
        )
        command = [sys.executable, "-c", script, str(tmp_path / "work" / "lock")]
        other = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "another process is x" in other.stderr
    lock(tmp_path).release()


def test_nothing_is_made_before_it_begins(tmp_path):
    workspace = Workspace(tmp_path / "work", PLAN)
    assert workspace.differences() == []
    workspace.refuse_another("scoring")
    workspace.discard_another()
    workspace.remove()
    assert list(tmp_path.iterdir()) == []
    workspace.begin()
    assert (tmp_path / "work" / "pomona-work.json").is_file()
    assert Workspace(tmp_path / "work", PLAN).differences() == []


def test_work_of_another_plan_is_refused_with_what_differs(tmp_path):
    Workspace(tmp_path / "work", PLAN).begin()
    other = Workspace(tmp_path / "work", {"seed": 2, "sizes": [1, 2], "column": "b"})
    assert other.differences() == ["column", "name", "seed"]
    with pytest.raises(
        PomonaError,
        match=r"work: holds the beginning of another scoring \(column, name, seed differ\) — "
        r"finish "
        "that one with its own settings, or delete the folder",
    ):
        other.refuse_another("scoring")


def test_work_goes_on_after_a_failure_and_goes_when_it_is_done(tmp_path):
    workspace = Workspace(tmp_path / "work", PLAN)
    with pytest.raises(KeyError), workspace.resumed() as folder:
        (folder / "half").write_text("x")
        raise KeyError
    with Workspace(tmp_path / "work", PLAN).resumed() as folder:
        assert (folder / "half").is_file()
    assert list(tmp_path.iterdir()) == []


def test_work_of_another_plan_is_discarded(tmp_path):
    old = Workspace(tmp_path / "work", PLAN)
    old.begin()
    (old.folder / "half").write_text("x")
    with Workspace(tmp_path / "work", {**PLAN, "seed": 2}).resumed() as folder:
        assert list(folder.iterdir()) == []


def test_a_folder_of_something_else_stays(tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.tex").write_text("x")
    workspace = Workspace(folder, PLAN)
    with (
        pytest.raises(
            PomonaError,
            match="thesis: holds files and is no work folder of Pomona's — choose another",
        ),
        workspace.resumed(),
    ):
        pass
    workspace.remove()
    assert (folder / "chapter.tex").is_file()


@pytest.mark.parametrize("name", [".git", "plan.json", "pomona-work.json/x", "work-0"])
def test_whatever_lies_in_a_folder_makes_it_somebody_elses(tmp_path, name):
    place = tmp_path / "mine" / name
    place.parent.mkdir(parents=True)
    place.write_text('{"a": 1}')
    workspace = Workspace(tmp_path / "mine", PLAN)
    with (
        pytest.raises(PomonaError, match=r"no work folder|cannot be read|is no file"),
        workspace.resumed(),
    ):
        pass
    assert place.read_text() == '{"a": 1}'
    assert not (tmp_path / ".mine.lock").exists()


def test_a_file_is_no_work_folder(tmp_path):
    (tmp_path / "thesis").write_text("x")
    workspace = Workspace(tmp_path / "thesis", PLAN)
    with (
        pytest.raises(PomonaError, match="thesis: is no folder — choose another"),
        workspace.resumed(),
    ):
        pass


def test_what_others_put_into_it_stays(tmp_path):
    workspace = Workspace(tmp_path / "work", PLAN)
    with pytest.raises(KeyError), workspace.resumed() as folder:
        (folder / "half").write_text("x")
        raise KeyError
    (tmp_path / "work" / "notes.txt").write_text("mine")
    with Workspace(tmp_path / "work", PLAN).resumed():
        pass
    assert [item.name for item in (tmp_path / "work").iterdir()] == ["notes.txt"]


def test_an_empty_folder_that_was_given_stays(tmp_path):
    (tmp_path / "work").mkdir()
    with Workspace(tmp_path / "work", PLAN).resumed():
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "work"]


@pytest.mark.parametrize("kept", ["marker", "marker and rest", "empty"])
def test_a_kill_while_it_is_removed_leaves_no_rest(tmp_path, kept):
    workspace = Workspace(tmp_path / "work", PLAN)
    workspace.begin()
    folder = workspace.folder
    (folder / "half").write_text("x")
    folder.rename(folder.with_name(folder.name.replace("work", "gone")))
    if kept != "marker and rest":
        shutil.rmtree(folder.with_name(folder.name.replace("work", "gone")))
    if kept == "empty":
        (tmp_path / "work" / "pomona-work.json").unlink()
    with Workspace(tmp_path / "work", PLAN).resumed() as folder:
        assert list(folder.iterdir()) == []
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_work_that_goes_on_after_half_of_it_was_removed_is_removed_too(tmp_path):
    workspace = Workspace(tmp_path / "work", PLAN)
    workspace.begin()
    folder = workspace.folder
    (folder / "half").write_text("x")
    folder.rename(folder.with_name(folder.name.replace("work", "gone")))
    workspace = Workspace(tmp_path / "work", PLAN | {"seed": 2})  # that one was done
    workspace.refuse_another("scoring")
    workspace.begin()
    assert Workspace(tmp_path / "work", PLAN).differences() == ["seed"]
    workspace.remove()
    assert list(tmp_path.iterdir()) == []


STEPS = ("mkdir", "rename", "replace", "unlink", "rmdir")  # what changes names on the disk


def killed(plain, left):
    def step(*given, **more):
        if next(left, None) is None:
            os._exit(9)
        return plain(*given, **more)

    return step


def test_a_kill_at_any_step_leaves_no_empty_folder(tmp_path, monkeypatch):
    at = 0
    for at in range(100):
        child = os.fork()
        if child == 0:
            left = iter(range(at))
            for name in STEPS:
                monkeypatch.setattr(Path, name, killed(getattr(Path, name), left))
            with Workspace(tmp_path / "deep" / "work", PLAN).resumed() as folder:
                (folder / "half").write_text("x")
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            break
        assert not list(tmp_path.glob("deep/work")) or list(tmp_path.glob("deep/work/*")), at
        with Workspace(tmp_path / "deep" / "work", PLAN).resumed():
            pass
        assert not list((tmp_path / "deep").iterdir()), at
    assert 8 < at < 99 and not list((tmp_path / "deep").iterdir())


def test_two_do_not_work_in_one_folder(tmp_path):
    with (
        Workspace(tmp_path / "work", PLAN).resumed(),
        pytest.raises(PomonaError, match="work: another process is working in it — wait for it"),
        Workspace(tmp_path / "work", PLAN).resumed(),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_no_lock_file_is_left_and_none_is_shared(tmp_path):
    first = lock(tmp_path)
    first.release()
    assert list((tmp_path / "work").iterdir()) == []
    lock(tmp_path).close()  # as a kill leaves it
    with lock(tmp_path) as again:
        again.path.unlink()  # as a third process does that had it before
        with lock(tmp_path):
            pass


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_no_bad_input(number):
    error = OSError(number, os.strerror(number))
    assert is_full(error)
    with (
        pytest.raises(ResourceError, match="out: the disk is full — free some space") as caught,
        disk_guard("out"),
    ):
        raise error
    assert caught.value.exit_code == 1


def test_another_error_names_the_file():
    assert not is_full(ValueError("No space left"))
    assert is_full(OSError("65536 requested and 12 written"))  # as NumPy tells it
    with (
        pytest.raises(PomonaError, match=r"out: cannot be written: .*denied — check the path"),
        disk_guard(Path("out")),
    ):
        raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize("held", [[], {}, {"id": 1, "plan": {}}, {"id": "../..", "plan": {}}])
def test_a_marker_that_was_damaged_is_named(tmp_path, held):
    write_json(tmp_path / "pomona-work.json", held)
    with pytest.raises(PomonaError, match=r"pomona-work\.json: is no"):
        Workspace(tmp_path, PLAN).differences()


def test_room_is_told_for_a_folder_that_is_not_there_yet(tmp_path):
    free, mount = room_on_disk(tmp_path / "a" / "b")
    assert free > 0
    assert str(tmp_path).startswith(mount)
