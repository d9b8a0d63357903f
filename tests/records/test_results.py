import errno
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from pomona.errors import PomonaError, ResourceError
from pomona.records import Card, Results, as_records, read
from pomona.workspace import stamp

ROWS = pa.table({"text": ["a", "b"]})
CARD = Card("test", {}, (), 2, 2)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text('{"text": "a"}\n')


def run(rows: pa.Table = ROWS, **files: str) -> None:
    with Results({"--out": "o.parquet", **files}, inputs=["in.jsonl"]) as results:
        for name in ["--out", *files]:
            results.write(name, as_records(rows))
        results.publish(CARD)


def names() -> list[str]:
    return sorted(path.name for path in Path().iterdir())


def test_results_are_published_together_with_a_card_that_lists_them():
    run(pairs="p.jsonl")
    card = json.loads(Path("o.parquet.card.json").read_text())
    assert [one["path"] for one in card["outputs"]] == ["o.parquet", "p.jsonl"]
    assert card["outputs"][1]["size"] == Path("p.jsonl").stat().st_size
    assert names() == ["in.jsonl", "o.parquet", "o.parquet.card.json", "p.jsonl"]
    run(ROWS.slice(1), pairs="p.jsonl")
    assert read("o.parquet").to_table().num_rows == 1


def test_results_in_another_folder_are_known_again():
    for _ in range(2):
        with Results({"--out": "deep/o.parquet", "pairs": "other/p.jsonl"}) as results:
            results.write("--out", as_records(ROWS))
            results.write("pairs", as_records(ROWS))
            results.publish(CARD)
    Path("deep").rename("moved")
    with Results({"--out": "moved/o.parquet"}):
        pass


@pytest.mark.parametrize("name", ["o.parquet", "p.jsonl", "o.parquet.card.json"])
def test_a_file_of_somebody_else_stays(name):
    Path(name).write_text("{}")
    with pytest.raises(PomonaError, match=rf"{name}: is there already, and is n"):
        run(pairs="p.jsonl")
    assert Path(name).read_text() == "{}"
    assert names() == sorted(["in.jsonl", name])


def test_a_result_that_somebody_has_changed_stays():
    run(pairs="p.jsonl")
    Path("p.jsonl").write_text("mine")
    before = Path("o.parquet").read_bytes()
    with pytest.raises(PomonaError, match=r"p\.jsonl: is there already, and is not what Pomona"):
        run(ROWS.slice(1), pairs="p.jsonl")
    assert (Path("p.jsonl").read_text(), Path("o.parquet").read_bytes()) == ("mine", before)


@pytest.mark.parametrize("where", ["in.jsonl", "o.parquet", "o.parquet.card.json"])
def test_no_result_is_an_input_another_or_the_card(where):
    with pytest.raises(PomonaError, match=r"would (be|replace)"):
        run(pairs=where)
    assert names() == ["in.jsonl"]


def test_a_failure_leaves_everything_as_it_was():
    run(pairs="p.jsonl")
    before = {name: Path(name).read_bytes() for name in names()}
    with pytest.raises(KeyError), Results({"--out": "o.parquet"}) as results:
        results.write("--out", as_records(ROWS.slice(1)))
        raise KeyError
    assert {name: Path(name).read_bytes() for name in names()} == before


def test_a_change_of_the_inputs_is_noticed():
    with (
        pytest.raises(PomonaError, match=r"o\.parquet: an input was changed"),
        Results({"--out": "o.parquet"}, stamps=lambda: stamp(["in.jsonl"])) as results,
    ):
        results.write("--out", as_records(ROWS))
        Path("in.jsonl").write_text('{"text": "b"}\n')
        results.publish(CARD)
    assert names() == ["in.jsonl"]


def test_one_writer_at_a_time():
    with (
        Results({"--out": "o.parquet", "pairs": "p.jsonl"}),
        pytest.raises(PomonaError, match=r"p\.jsonl: another process is writing it — wait for it"),
        Results({"--out": "q.parquet", "pairs": "p.jsonl"}),
    ):
        pass
    assert names() == ["in.jsonl"]


KILLED = """
import os, sys, pathlib
import pyarrow as pa
from pomona.records import Card, Results, as_records
at, count, replace = int(sys.argv[1]), [0], os.replace
def counted(*arguments, **options):
    count[0] += 1
    if count[0] > at:
        os.kill(os.getpid(), 9)
    return replace(*arguments, **options)
os.replace = counted
pathlib.Path.replace = lambda self, place: counted(self, place)
with Results({"--out": "o.parquet", "pairs": "p.jsonl"}) as results:
    for name in ("--out", "pairs"):
        results.write(name, as_records(pa.table({"text": ["new"]})))
    results.publish(Card("test", {}, (), 2, 2))
"""


def test_two_kills_in_a_row_are_gone_on_from():
    for text in ("one", "two"):
        script = KILLED.replace('"new"', f'"{text}"')
        # The first stops with both results in place, the second with none replaced yet.
        at = {"one": 2, "two": 0}[text]
        done = subprocess.run([sys.executable, "-c", script, str(at)], check=False)
        assert done.returncode == -9
    run(pairs="p.jsonl")
    assert names() == ["in.jsonl", "o.parquet", "o.parquet.card.json", "p.jsonl"]


def test_a_disk_that_fills_up_at_the_card_is_told_and_gone_on_from(
    monkeypatch: pytest.MonkeyPatch,
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pomona.records.results.write_json", full)
        with pytest.raises(ResourceError, match=r"o\.parquet\.card\.json: the disk is full"):
            run(pairs="p.jsonl")
    run(pairs="p.jsonl")
    assert names() == ["in.jsonl", "o.parquet", "o.parquet.card.json", "p.jsonl"]


def test_a_file_of_somebody_else_in_the_place_of_a_lock_stays():
    Path(".o.parquet.lock").write_text("mine")
    with pytest.raises(PomonaError, match=r"\.o\.parquet\.lock: is there, where Pomona would lock"):
        run()
    assert Path(".o.parquet.lock").read_text() == "mine"


def test_a_failure_leaves_no_folder_that_was_made_for_the_results():
    files = {"--out": "new/o.parquet", "pairs": "new/deep/p.jsonl"}
    with pytest.raises(ValueError, match="no"), Results(files) as results:
        results.partial("pairs").touch()
        raise ValueError("no")
    assert names() == ["in.jsonl"]


def test_a_failure_after_a_kill_does_not_forget_what_is_ours():
    subprocess.run([sys.executable, "-c", KILLED, "2"], check=False)
    with pytest.raises(ValueError, match="no"), Results({"--out": "o.parquet", "pairs": "p.jsonl"}):
        raise ValueError("no")
    run(pairs="p.jsonl")
    assert names() == ["in.jsonl", "o.parquet", "o.parquet.card.json", "p.jsonl"]


@pytest.mark.parametrize("at", range(4))
def test_a_kill_at_any_point_is_gone_on_from(at):
    run(pairs="p.jsonl")
    done = subprocess.run([sys.executable, "-c", KILLED, str(at)], check=False)
    assert done.returncode == (-9 if at < 3 else 0)
    run(ROWS.slice(1), pairs="p.jsonl")
    assert read("p.jsonl").to_table() == ROWS.slice(1)
    assert names() == ["in.jsonl", "o.parquet", "o.parquet.card.json", "p.jsonl"]


@pytest.mark.parametrize(
    ("name", "says"),
    [("o.parquet/", "ends in a slash"), ("loop.parquet", "is no file"), ("~/o", "begins with ~")],
)
def test_a_name_that_is_no_file(name, says):
    Path("loop.parquet").symlink_to("loop.parquet")
    with pytest.raises(PomonaError, match=says), Results({"--out": name}):
        pass
    assert names() == ["in.jsonl", "loop.parquet"]


def test_a_name_that_looks_like_an_address(tmp_path):
    for _ in range(2):
        with Results({"--out": "a:b.parquet"}, inputs=["in.jsonl"]) as results:
            results.write("--out", as_records(ROWS))
            results.publish(CARD)
    assert read("a:b.parquet").to_table().num_rows == 2
