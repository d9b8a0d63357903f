"""Bad input is named and loses nothing; a killed run continues to the identical bytes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.data.duplicates import dedup, near
from pomona.errors import PomonaError, ResourceError


@pytest.mark.parametrize(
    ("table", "options", "text"),
    [
        ({"txt": ["a"]}, {}, 'the table: there is no column "text" — did you mean "txt"?'),
        (
            {"text": ["a", None]},
            {},
            'the table, row 2: column "text" is null — drop the row or give it a text',
        ),
        (
            {"text": [1]},
            {},
            'the table: column "text" holds int64, not text — name a column of strings or of '
            "conversations, or a template of columns",
        ),
        (
            {"text": ["a"]},
            {"threshold": 0.0},
            "threshold: 0.0 is not above 0 and at most 1 — 0.8 is usual",
        ),
        (
            {"text": ["a"]},
            {"threshold": float("nan")},
            "threshold: nan is not above 0 and at most 1 — 0.8 is usual",
        ),
        (
            {"text": ["a"]},
            {"edit_similarity": 2.0},
            "edit_similarity: 2.0 is not above 0 and at most 1 — 0.8 is usual",
        ),
        (
            {"text": ["a"]},
            {"shingle": "words"},
            'shingle: there is no "words" — did you mean "word"?',
        ),
        (
            {"text": ["a"]},
            {"method": "minhsh"},
            'method: there is no "minhsh" — did you mean "minhash"?',
        ),
        (
            {"text": ["a"]},
            {"keep": "last"},
            (
                'keep: "last" says nothing about which document to keep — first, longest, '
                "best:COLUMN or none"
            ),
        ),
        ({"text": ["a"]}, {"n_bands": 0}, "n_bands: 0 is less than 1 — give 1 or more"),
        (
            {"text": ["a"]},
            {"bands": 3},
            'dedup: minhash has no option "bands" — did you mean "n_bands"?',
        ),
        ({"text": ["a"]}, {"keep": "best:s"}, 'the table: there is no column "s" — known: text'),
        (
            {"text": ["a"], "s": ["x"]},
            {"keep": "best:s"},
            'the table: column "s" is string, not a number — name a column with scores',
        ),
        (
            {"text": ["a", "b"], "s": [1.0, float("nan")]},
            {"keep": "best:s"},
            'the table, row 2: column "s" is nan, not a number — drop the row or score it again',
        ),
        (
            {"text": ["a"]},
            {"engine": "dask"},
            'there is no engine "dask" — choose one of: native, ray',
        ),
    ],
)
def test_errors_say_what_and_where(table: dict, options: dict, text: str, tmp_path: Path) -> None:
    with pytest.raises(PomonaError) as caught:
        dedup(pa.table(table), tmp_path / "out.parquet", **options)
    assert str(caught.value) == text
    assert not (tmp_path / "out.parquet").exists()


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    raw = pa.array([b"good", b"caf\xe9"], pa.binary())
    broken = pa.StringArray.from_buffers(2, *raw.buffers()[1:])
    with pytest.raises(
        PomonaError,
        match=r'the table, row 2: column "text" is not UTF-8: .* — convert the file to UTF-8',
    ):
        dedup(pa.table({"text": broken}), tmp_path / "out.parquet")


def test_a_damaged_file_and_the_input_as_output(tmp_path: Path) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(PomonaError, match="bad"):
        dedup(tmp_path / "bad.parquet", tmp_path / "out.parquet")
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": ["a"]}), path)
    with pytest.raises(
        PomonaError, match="is an input, and out would replace it — write out to another path"
    ):
        dedup(path, path)


def test_no_rows_in_no_rows_out(tmp_path: Path) -> None:
    card = dedup(pa.table({"text": pa.array([], pa.string())}), tmp_path / "out.parquet")
    assert (card.rows_in, card.rows_out) == (0, 0)
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 0


def test_a_document_of_fifty_megabytes(tmp_path: Path) -> None:
    huge = " ".join(f"{at:09d}" for at in range(5_000_000))
    dedup(pa.table({"text": ["small text", huge, "other text"]}), tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["text"].to_pylist() == [
        "small text",
        huge,
        "other text",
    ]


def test_folders_beside_the_work_folder_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.old").mkdir()
    (tmp_path / "mine.old" / "thesis.txt").write_text("x")
    dedup(pa.table({"text": ["a"]}), tmp_path / "out.parquet", work=tmp_path / "mine")
    assert {path.name for path in tmp_path.iterdir()} == {
        "mine.old",
        "out.parquet",
        "out.parquet.card.json",
        "out.parquet.pairs.parquet",
    }
    assert (tmp_path / "mine.old" / "thesis.txt").read_text() == "x"


def test_a_foreign_work_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(
        PomonaError, match="mine: holds files and is no work folder of Pomona's — choose another"
    ):
        dedup(pa.table({"text": ["a"]}), tmp_path / "out.parquet", work=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    card = dedup(
        pa.table({"text": ["a", "a"]}),
        tmp_path / "out.parquet",
        dry_run=True,
        progress=lambda *step: steps.append(step),
    )
    assert card.removed == {"exact": 1, "near": 0}
    assert list(tmp_path.iterdir()) == []
    assert steps == [(at, 18) for at in range(1, 19)]


def test_a_full_disk_is_named_and_leaves_nothing_half_written(
    small_disk: Path, tmp_path: Path, earlier_results: Any
) -> None:
    draw = random.Random(0)
    table = pa.table({"text": [draw.randbytes(200).hex(" ") for _ in range(2000)]})
    before = earlier_results(small_disk / "out.parquet", "", ".pairs.parquet")
    for work in (small_disk / "work", tmp_path / "work"):
        with pytest.raises(ResourceError, match="the disk is full"):
            dedup(table, small_disk / "out.parquet", work=work)
        assert {name: (small_disk / name).read_text() for name in before} == before
        assert not list(small_disk.glob(".out*"))


def test_a_chunk_that_a_crash_damaged_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.table({"text": ["a b", "a b", "c"]}), path)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(near, "kept_rows", killed)
        dedup(path, out, method="exact")
    (prints,) = tmp_path.glob(".out.parquet.work/work-*/inputs/00000-000000/prints.npy")
    raw = prints.read_bytes()
    prints.write_bytes(raw[:-16] + bytes(16))
    assert dedup(path, out, method="exact").rows_out == 2


SCRIPT = """
import itertools, os, signal, sys
from pomona import files
from pomona.data.duplicates import dedup, minhash
from pomona.records import results
minhash.CHUNK_ROWS = 20
last, calls = int(sys.argv[3]), itertools.count(1)
def counted(function):
    def call(*arguments):
        if next(calls) == last:
            os.kill(os.getpid(), signal.SIGKILL)
        function(*arguments)
    return call
minhash.save_chunk, files.sync = counted(minhash.save_chunk), counted(files.sync)
results.sync = files.sync
dedup(sys.argv[1], sys.argv[2])
"""


def test_killed_runs_continue_to_the_same_bytes(tmp_path: Path) -> None:
    draw = random.Random(1)
    vocabulary = [draw.randbytes(3).hex() for _ in range(500)]
    texts = [" ".join(draw.choices(vocabulary, k=40)) for _ in range(300)]
    texts += [f"{draw.choice(texts)} {draw.choice(vocabulary)}" for _ in range(100)]
    path, calm, rough = (
        tmp_path / name for name in ("in.parquet", "calm.parquet", "rough.parquet")
    )
    pq.write_table(pa.table({"text": texts}), path)
    dedup(path, calm)
    seen = set()
    for moment in ("9", "21"):  # among the chunks, and after them
        killed = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(path), str(rough), moment], check=False
        )
        assert killed.returncode == -signal.SIGKILL
        seen |= {file.name for file in (tmp_path / ".rough.parquet.work").rglob("*")}
    assert seen
    assert not rough.exists()
    subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(rough), "0"], check=True, capture_output=True
    )
    for end in ("", ".pairs.parquet"):
        assert Path(f"{rough}{end}").read_bytes() == Path(f"{calm}{end}").read_bytes()
    assert not (tmp_path / ".rough.parquet.work").exists()
