import copy
import os
import pickle
from pathlib import Path

import pytest

from pomona.errors import PomonaError
from pomona.places import Found, check_outputs
from pomona.workspace import refuse_changed, stamp


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    Path("in/a.parquet").write_text("x")
    Path("link").symlink_to("in/a.parquet")
    Path("folder").symlink_to("in")
    os.link("in/a.parquet", "hard")


@pytest.mark.parametrize(
    "out",
    ["in/a.parquet", "./in/../in/a.parquet", "link", "folder/a.parquet", "hard"],
)
def test_no_output_is_an_input(out):
    for where in (out, Path(out), Path.cwd() / out):
        with pytest.raises(PomonaError, match="is an input, and --pairs would replace it"):
            check_outputs({"--out": "o", "--pairs": where}, ["in/a.parquet"])


@pytest.mark.parametrize("one", ["s3://b/k", "s3:/b/k", Path("s3://b/k"), "s3://b//k"])
def test_addresses_are_compared(one):
    with pytest.raises(PomonaError, match=r"s3://b/.*: is an input"):
        check_outputs({"--out": one}, ["s3://b/k"])
    check_outputs({"--out": "s3://b/k2"}, ["s3://b/k"])
    check_outputs({"--out": "b/k"}, ["s3://b/k"])


def test_no_output_is_another(tmp_path):
    with pytest.raises(PomonaError, match="o: would be --out and --pairs at once"):
        check_outputs({"--out": "o", "--pairs": tmp_path / "o", "--spans": None})
    check_outputs({"--out": "o", "--pairs": "p", "--spans": None}, ["in"])


def test_nothing_lies_in_a_folder_that_is_replaced():
    with pytest.raises(PomonaError, match=r"in/a\.parquet: lies in in, which is --work"):
        check_outputs({"--work": "in"}, ["in/a.parquet"], folders=["--work"])
    with pytest.raises(PomonaError, match=r"w/o: lies in w, which is --work.* — write --out to"):
        check_outputs({"--out": "w/o", "--work": "w"}, folders=["--work"])
    check_outputs({"--out": "in/new.parquet"}, ["in"])


@pytest.mark.parametrize(
    ("among", "inside", "apart"),
    [
        ("in", "in/o in/sub/o.x folder/o ./in/../in/o", "o in.x in/.o in/.work/o"),
        ("in/", "in/o", "inner/o"),
        (".", "o in/o", ".o ../o"),
        ("in/*.parquet", "in/o.parquet folder/o.parquet", "in/o.jsonl in/x/o.parquet o.parquet"),
        ("folder/*.parquet", "in/o.parquet", "in/o.jsonl"),
        ("*/[ab]?.x", "in/a1.x q/b2.x", "in/c1.x a1.x in/a.x"),
        ("in/**/*.x", "in/o.x in/a/b/o.x", "in/o.y o.x"),
        ("s3://b/k/*.x", "s3://b/k/o.x s3:/b/k/o.x", "s3://b/k/d/o.x s3://c/k/o.x k/o.x"),
        ("s3://b/k", "s3://b/k/d/o", "s3://b/ko b/k/o"),
        ("in[1]", "in[1]/o", "in1/o"),
    ],
)
def test_the_next_run_finds_no_output(among, inside, apart):
    Path("in[1]").mkdir()
    found = copy.deepcopy(pickle.loads(pickle.dumps(Found("in/a.parquet", [among]))))
    for where in inside.split():
        with pytest.raises(PomonaError, match="which is read: the next run would read it too"):
            check_outputs({"--out": where}, [found])
    for where in apart.split():
        check_outputs({"--out": where}, [found])


def test_a_change_is_noticed():
    before = stamp(["in", "missing"])
    refuse_changed(before, stamp(["in", "missing"]), "in")
    Path("in/b").write_text("x")
    with pytest.raises(PomonaError, match="in: an input was changed while it was read, so nothing"):
        refuse_changed(before, stamp(["in"]), "in")
