import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pomona.errors import PomonaError
from pomona.files import (
    LISTING,
    atomic_directory,
    atomic_file,
    beside,
    check_ours,
    read_array,
    remove_from,
    replace_directory,
    sweep,
    write_into,
)
from pomona.places import address, check_name
from pomona.workspace import stamp

DEAD = 2**22 + 1  # above every number that a process can have


def make(path: Path, **files: str) -> None:
    with atomic_directory(path) as folder:
        for name, text in files.items():
            (folder / name).write_text(text)


def held(path: Path) -> dict[str, str]:
    return {
        str(file.relative_to(path)): file.read_text()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != LISTING
    }


def test_an_address_keeps_both_slashes():
    assert address(Path("s3://b/o.parquet")) == "s3://b/o.parquet"
    assert address("s3://b/o") == "s3://b/o"
    assert address(Path("a/s3:/b")) == "a/s3:/b"


def test_a_file_replaces_what_a_link_leads_to(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    with atomic_file(tmp_path / "link") as partial:
        partial.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_only_a_file_is_replaced_by_a_file(tmp_path, kind):
    place = tmp_path / "place"
    place.mkdir() if kind == "folder" else os.mkfifo(place)
    with (
        pytest.raises(PomonaError, match="place: is no file — choose another name"),
        atomic_file(place),
    ):
        pass
    assert list(tmp_path.iterdir()) == [place]


def test_a_folder_of_ours_is_replaced_and_what_others_put_into_it_stays(tmp_path):
    out = tmp_path / "out"
    make(out, a="1", b="2")
    (out / "notes.txt").write_text("mine")
    (out / "deep" / "empty").mkdir(parents=True)
    (out / "link").symlink_to("nowhere")
    make(out, a="3", c="4")
    assert held(out) == {"a": "3", "c": "4", "notes.txt": "mine"}
    assert (out / "deep" / "empty").is_dir()
    assert (out / "link").is_symlink()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("name", ["thesis", ".git/config", ".hidden", LISTING])
def test_a_folder_of_somebody_else_is_not_replaced(tmp_path, name):
    place = tmp_path / "out" / name
    place.parent.mkdir(parents=True)
    place.write_text("x")
    with pytest.raises(PomonaError, match="out: holds files and is no folder that Pomona made"):
        make(tmp_path / "out", a="1")
    assert place.read_text() == "x"
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


@pytest.mark.parametrize("place", ["/", ".", "..", "file"])
def test_what_is_no_place_for_a_folder(tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("x")
    with pytest.raises(PomonaError, match=r"no name for a result|is no folder"):
        make(Path(place), a="1")
    assert Path("file").read_text() == "x"


def test_an_empty_folder_is_nobodys(tmp_path):
    (tmp_path / "out").mkdir()
    make(tmp_path / "out", a="1")
    assert held(tmp_path / "out") == {"a": "1"}


def test_a_file_of_somebody_else_is_not_overwritten_in_a_folder_of_ours(tmp_path):
    make(tmp_path / "out", a="1")
    (tmp_path / "out" / "b").write_text("mine")
    with pytest.raises(PomonaError, match="out/b: is in the way of a new file"):
        make(tmp_path / "out", a="2", b="3")
    assert held(tmp_path / "out") == {"a": "1", "b": "mine"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_what_a_killed_attempt_carried_over_is_still_somebody_elses(tmp_path):
    out, new = tmp_path / "out", tmp_path / "new"
    make(out, a="1")
    for name in ("sub/x", "copied", "empty/deep"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(name) if name != "empty/deep" else (out / name).mkdir()
    shutil.copytree(out, new)
    (out / "later").mkdir()
    (out / "later" / "y").write_text("later/y")
    (new / "later").mkdir()  # the kill came before the link
    (new / "sub" / "x").unlink()
    os.link(out / "sub" / "x", new / "sub" / "x")
    (new / LISTING).unlink()
    replace_directory(new, out)
    assert held(out) == {"a": "1", "copied": "copied", "later/y": "later/y", "sub/x": "sub/x"}
    assert (out / "empty" / "deep").is_dir()
    assert json.loads((out / LISTING).read_text())["made"] == ["a"]


def test_the_next_writer_takes_away_what_a_killed_one_left(tmp_path):
    for name in ("a", "b"):
        beside(tmp_path / name, pid=DEAD).write_text("half")
    with atomic_file(tmp_path / "a") as partial:
        partial.write_text("new")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [beside(tmp_path / "b", pid=DEAD).name, "a"]


def test_leftovers_are_swept_and_nothing_else(tmp_path):
    make(tmp_path / "old", a="1")
    (tmp_path / "b").mkdir()
    (tmp_path / "old").rename(beside(tmp_path / "b" / "c", "old", DEAD))
    beside(tmp_path / "a", pid=DEAD).write_text("x")
    beside(tmp_path / "d", pid=DEAD).mkdir()  # a kill came before it could be listed as ours
    kept = [beside(tmp_path / "a").name, "b.1.partial", ".x.old", f".x.{DEAD}.partial.txt"]
    kept += [f".a.{DEAD}.partial", f".a.{DEAD}.01234567.partial"]  # look alike, and are not ours
    for name in kept:
        (tmp_path / name).write_text("x")
    thesis = beside(tmp_path / "thesis", "old", DEAD)
    thesis.mkdir()
    (thesis / "chapter").write_text("x")
    sweep(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted([*kept, "b", thesis.name])
    assert (thesis / "chapter").is_file()
    sweep(tmp_path, deep=True)
    assert held(tmp_path / "b") == {"c/a": "1"}


KILLED = """
import os, sys
from pathlib import Path
from pomona.files import atomic_directory
at, path, count = int(sys.argv[1]), Path(sys.argv[2]), [0]
def counted(function):
    def call(*arguments, **options):
        count[0] += 1
        if count[0] > at:
            os._exit(9)
        return function(*arguments, **options)
    return call
for module, names in ((os, "rename replace unlink rmdir link mkdir"),):
    for name in names.split():
        setattr(module, name, counted(getattr(module, name)))
with atomic_directory(path) as folder:
    (folder / "a").write_text("new")
"""


def test_a_kill_at_any_point_loses_nothing(tmp_path):
    for at in range(30):
        out = tmp_path / str(at) / "out"
        make(out, a="old", b="old")
        (out / "notes.txt").write_text("mine")
        done = subprocess.run([sys.executable, "-c", KILLED, str(at), str(out)], check=False)
        sweep(out.parent)
        files = held(out)
        assert files.pop("notes.txt") == "mine"
        assert files in ({"a": "old", "b": "old"}, {"a": "new"})
        make(out, a="new")
        assert held(out) == {"a": "new", "notes.txt": "mine"}
        assert [path.name for path in out.parent.iterdir()] == ["out"]
        if done.returncode == 0:
            return
    raise AssertionError("was killed at every point")


def test_a_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(PomonaError) as raised:
        write_into(Path("/proc/self/page"), {"a": "1"})
    assert str(raised.value).startswith("/proc/self/page: cannot be made")


def test_files_are_written_into_a_folder_and_replaced_as_long_as_they_are_as_we_wrote_them(
    tmp_path,
):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    write_into(folder, {"a": "1"})
    write_into(folder, {"a": "2", "b": "1"})
    assert held(folder) == {"a": "2", "b": "1", "notes.txt": "mine"}
    for name in ("notes.txt", "b"):
        (folder / name).write_text("mine")
        with pytest.raises(PomonaError, match=f"{name}: is not what Pomona wrote there, so it"):
            write_into(folder, {"a": "3", name: "3"})
    assert held(folder) == {"a": "2", "b": "mine", "notes.txt": "mine"}
    remove_from(folder, "notes.txt")
    assert (folder / "notes.txt").is_file()
    remove_from(folder, "a")
    assert not (folder / "a").exists()


def test_what_killed_writers_of_the_files_left_is_swept(tmp_path):
    for name in ("a", ".pomona.json", "b"):
        beside(tmp_path / name, pid=DEAD).write_text("half")
    write_into(tmp_path, {"a": "1"})
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [beside(tmp_path / "b", pid=DEAD).name, ".pomona.json", "a"]


@pytest.mark.parametrize("text", ["[]", "{", '{"made": 1}', '{"made": [1], "sha256": [2]}'])
def test_a_list_that_is_none_makes_nothing_ours(tmp_path, text):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / LISTING).write_text(text)
    with pytest.raises(PomonaError, match="is no folder that Pomona made"):
        make(folder, a="1")
    assert (folder / LISTING).read_text() == text


@pytest.mark.parametrize(
    "changes",
    [
        (b"{", b"("),
        (b"'descr'", b"[[[[[[["),
        (b"(3,)", b"(9,)"),
        (b"<i8", b"|O8"),
        (b"NUMPY", b"PK"),
    ],
)
def test_a_damaged_array_is_a_wrong_value(tmp_path: Path, changes: tuple[bytes, bytes]) -> None:
    file = tmp_path / "x.npy"
    np.save(file, np.arange(3))
    assert read_array(file).tolist() == [0, 1, 2]
    file.write_bytes(file.read_bytes().replace(*changes))
    with pytest.raises(ValueError, match=r"x\.npy is no array of NumPy"):
        read_array(file)


def test_a_folder_of_another_kind_is_not_replaced(tmp_path):
    for kind in ("an index", "an index"):
        with atomic_directory(tmp_path / "i", kind) as folder:
            (folder / "a").write_text("1")
    for make in (
        lambda: check_ours(tmp_path / "i", "a run"),
        lambda: atomic_directory(tmp_path / "i", "a run").__enter__(),
    ):
        with pytest.raises(PomonaError, match="i: is an index, which a run does not replace"):
            make()
    write_into(tmp_path / "i", {"b": "1"}, "a run")
    check_ours(tmp_path / "i", "an index")


@pytest.mark.parametrize("name", ["~/a", "~", "S3://b/a", "gs://b/a", "file:///a", "http:/b/a"])
def test_what_would_become_a_folder_of_an_odd_name_is_refused(name):
    with pytest.raises(PomonaError, match=r"begins with ~|is an address that Pomona cannot"):
        check_name(name)
    assert check_name("a:b") == "a:b"


def test_a_link_to_itself_is_not_replaced(tmp_path):
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(PomonaError, match="is no file"), atomic_file(tmp_path / "a"):
        pass
    assert (tmp_path / "a").is_symlink()


def test_hidden_files_of_an_input_may_change(tmp_path):
    before = stamp([tmp_path])
    (tmp_path / ".a.lock").write_text("")
    assert stamp([tmp_path]) == before
