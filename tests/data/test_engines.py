"""Ray gives what the native engine gives, whole files or pieces of one, also when a worker is
killed on the way. One cluster serves all.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.data import dedup, filter, mix, prune, score, sweep
from pomona.data.audit import sample_audit
from pomona.errors import PomonaError
from pomona.models import load
from pomona.records import pieces as record_pieces, spread

PIECE = 20_000
BAND: dict[str, Any] = {"by": "score", "within": "lang"}
FILTER: dict[str, Any] = {"where": ["score > 0.2"], "group": "lang"}
SCORE: dict[str, Any] = {"scores": ["perplexity", "mtld"], "models": ["ui-xs"]}
MIX: dict[str, Any] = {"schedule": {"weights": {"a": 1, "b": 2}}, "total": 300}
SEMANTIC: dict[str, Any] = {"method": "semantic", "model": "ui-xs", "threshold": 0.9}
SUBSTRING: dict[str, Any] = {"method": "substring", "min_length": 8, "keep": "first"}

SCRIPT = """
import json, os, signal, sys
import pyarrow as pa
import ray
from ray.cluster_utils import Cluster

os.chdir(sys.argv[1])
store = 80 << 20
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": store, "include_dashboard": False})
cluster.add_node(num_cpus=1, object_store_memory=store)
ray.init(address=cluster.address, log_to_driver=False, logging_level="error")

from pomona.data import dedup, filter, mix, prune, score, sweep
from pomona.data.audit import sample_audit
from pomona.data.duplicates import minhash
from pomona.errors import PomonaError
from pomona.records import pieces as record_pieces, read, spread

options, said = json.loads(sys.argv[2]), {}
record_pieces.PIECE_BYTES = options["piece"]

def die_once(mark):
    if not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)

def suicide(job):
    if job == 2:
        die_once("spread.died")
    return job

def wrong(job):
    raise PomonaError("is wrong", where=f"job {job}", remedy="do better")

sign_part = minhash.sign_part
def fatal(job):
    if job.part == 3:
        die_once("signing.died")
    return sign_part(job)

def error_of(function, *arguments, **named):
    try:
        function(*arguments, **named)
    except PomonaError as error:
        return str(error)

records = {engine: read("in/*.parquet", engine=engine) for engine in ("ray", "native")}
lines = {engine: read("in.jsonl", engine=engine) for engine in ("ray", "native")}
few = {engine: some.where(lang=["de", "tr"]).select("text", "lang") for engine, some in records.items()}
said["read"] = {
    engine: [
        records[engine].count(),
        records[engine].to_table().to_pylist(),
        lines[engine].where(lang="de").to_table().to_pylist(),
        few[engine].count(),
        few[engine].head(70).to_table().to_pylist(),
        few[engine].head(70).where(lang="de").count(),
        few[engine].head(0).count(),
    ]
    for engine in records
}
schema = pa.schema([("score", pa.float64())])
said["reading"] = error_of(read("malformed.jsonl", columns=schema, engine="ray").to_table)
said["jobs"], said["nodes"] = list(spread(suicide, range(6), "ray")), len(ray.nodes())
said["wrong"] = error_of(lambda: list(spread(wrong, [7], "ray")))
minhash.sign_part = fatal
said["removed"] = dict(dedup("in/*.parquet", "ray/near.parquet", engine="ray").removed)
minhash.sign_part = sign_part
dedup("in.jsonl", "ray/lines.parquet", method="exact", engine="ray")
said["null"] = error_of(dedup, "null.jsonl", "ray/null.parquet", engine="ray")
said["malformed"] = error_of(prune, "malformed.jsonl", "ray/malformed.parquet", by="score", engine="ray")
prune("in.jsonl", "ray/prune.parquet", engine="ray", **options["band"])
filter("in/*.parquet", "ray/filter.parquet", engine="ray", **options["filter"])
sweep("in/*.parquet", "ray/sweep", keeps=[0.3], bands=["top"], engine="ray", **options["band"])
mix({"a": "in.jsonl", "b": "in/1.parquet"}, "ray/mix.jsonl", engine="ray", **options["mix"])
sample_audit("in.jsonl", "ray/audit", n=5, engine="ray")
card = dedup("in/*.parquet", "ray/substring.parquet", engine="ray", **options["substring"])
said["passes"] = card.details["passes"]
score("few.parquet", "ray/score.parquet", engine="ray", **options["score"])
dedup("few.parquet", "ray/semantic.parquet", engine="ray", **options["semantic"])
with open("said.json", "w") as out:
    json.dump(said, out)
ray.shutdown()
cluster.shutdown()
"""


def rows_of(draw: random.Random) -> list[dict[str, Any]]:
    vocabulary = [draw.randbytes(3).hex() for _ in range(300)]
    texts = [" ".join(draw.choices(vocabulary, k=40)) for _ in range(300)]
    texts += [f"{draw.choice(texts)} {draw.choice(vocabulary)}" for _ in range(100)]
    return [
        {"text": text, "score": draw.random(), "lang": draw.choice(("de", "tr", "ru"))}
        for text in texts
    ]


@pytest.fixture(scope="module")
def ray(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The inputs, what Ray made of them in the folder `ray`, and what its process said."""
    pytest.importorskip("ray")
    folder, rows = tmp_path_factory.mktemp("engines"), rows_of(random.Random(3))
    (folder / "in").mkdir()
    for part in range(5):
        pq.write_table(
            pa.Table.from_pylist(rows[part::5]),
            folder / "in" / f"{part}.parquet",
            row_group_size=30,
        )
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / "in.jsonl").write_text("\ufeff" + "\n".join(lines))
    (folder / "null.jsonl").write_text("".join([*lines, '{"text": null}\n']))
    (folder / "malformed.jsonl").write_text("".join([*lines, '{"score": }\n']))
    pq.write_table(
        pa.table(
            {
                "text": ["Save the file", "Save the files", "Open it"] * 2
                + [f"Row {row}" for row in range(12)]
            }
        ),
        folder / "few.parquet",
    )
    options = {
        "piece": PIECE,
        "band": BAND,
        "filter": FILTER,
        "mix": MIX,
        "substring": SUBSTRING,
        "score": SCORE,
        "semantic": SEMANTIC,
    }
    command = [sys.executable, "-c", SCRIPT, str(folder), json.dumps(options)]
    ran = subprocess.run(
        command,
        env={**os.environ, "RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    return folder, json.loads((folder / "said.json").read_text())


@pytest.fixture(autouse=True)
def _pieces(ray: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ray[0])


def same(*names: str) -> None:
    for name in names:
        assert Path(f"ray/{name}").read_bytes() == Path(f"native/{name}").read_bytes()


def test_records_are_read_alike(ray: tuple[Path, dict[str, Any]]) -> None:
    read, reading = ray[1]["read"], ray[1]["reading"]
    assert read["ray"] == read["native"]
    assert (read["ray"][0], len(read["ray"][1]), len(read["ray"][4])) == (400, 400, 70)
    assert reading.startswith("malformed.jsonl, line 401: not valid JSON: ")


def test_native_jobs_run_in_order_as_they_are_asked_for() -> None:
    made: list[int] = []
    results = spread(lambda job: job * 2, (made.append(job) or job for job in (1, 2, 3)))
    assert next(results) == 2 and made == [1]
    assert list(results) == [4, 6]
    with pytest.raises(
        PomonaError, match='there is no engine "spark" — choose one of: native, ray'
    ):
        spread(str, [], "spark")


def test_killed_workers_are_replaced_and_errors_keep_their_words(
    ray: tuple[Path, dict[str, Any]],
) -> None:
    folder, said = ray
    assert said["jobs"] == list(range(6)) and said["nodes"] == 2
    assert (folder / "spread.died").exists() and (folder / "signing.died").exists()
    assert said["wrong"] == "job 7: is wrong — do better"
    assert (
        said["null"]
        == 'null.jsonl, row 401: column "text" is null — drop the row or give it a text'
    )
    assert said["malformed"].startswith(
        "malformed.jsonl, line 401: not valid JSON: expecting value"
    )


def test_duplicates_and_spans_are_the_same(ray: tuple[Path, dict[str, Any]]) -> None:
    native = dedup("in/*.parquet", "native/near.parquet")
    assert ray[1]["removed"] == dict(native.removed) and native.removed["near"] > 50
    dedup("in.jsonl", "native/lines.parquet", method="exact")
    spans = dedup("in/*.parquet", "native/substring.parquet", **SUBSTRING)
    assert ray[1]["passes"] == 2 > spans.details["passes"] and spans.details["struck_spans"] >= 100
    for name, end in (("near", "pairs"), ("lines", "pairs"), ("substring", "spans")):
        same(f"{name}.parquet", f"{name}.parquet.{end}.parquet")


def test_bands_mixtures_and_samples_are_the_same() -> None:
    prune("in.jsonl", "native/prune.parquet", **BAND)
    filter("in/*.parquet", "native/filter.parquet", **FILTER)
    sweep("in/*.parquet", "native/sweep", keeps=[0.3], bands=["top"], **BAND)
    mix({"a": "in.jsonl", "b": "in/1.parquet"}, "native/mix.jsonl", **MIX)
    sample_audit("in.jsonl", "native/audit", n=5)
    same(
        "prune.parquet",
        "filter.parquet",
        "sweep/top-0.3.parquet",
        "sweep/random-0.3.parquet",
        "mix.jsonl",
        "audit/labels.csv",
        "audit/key.json",
    )
    same(
        *(
            f"{name}.card.json"
            for name in (
                "prune.parquet",
                "filter.parquet",
                "sweep/top-0.3.parquet",
                "mix.jsonl",
                "audit",
            )
        )
    )


def test_scores_and_meanings_are_the_same_but_for_rounding() -> None:
    score("few.parquet", "native/score.parquet", **SCORE)
    dedup("few.parquet", "native/semantic.parquet", **SEMANTIC)
    one, two = (pq.read_table(f"{engine}/score.parquet") for engine in ("ray", "native"))
    assert one["mtld"] == two["mtld"] and one["perplexity"].to_pylist() == pytest.approx(
        two["perplexity"].to_pylist(), rel=1e-5
    )
    same("semantic.parquet")
    with pytest.raises(
        PomonaError,
        match=(
            "model: a loaded model stays in this process — give its URI, or use the native engine"
        ),
    ):
        dedup(
            "few.parquet",
            "native/semantic.parquet",
            method="semantic",
            model=load("ui-xs"),
            engine="ray",
        )


def test_pieces_have_all_rows_once_and_know_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    from pomona.records import read

    monkeypatch.setattr(record_pieces, "PIECE_BYTES", PIECE // 4)
    for inputs in ("in.jsonl", "in/1.parquet"):
        records = read(inputs)
        pieces = record_pieces.split(records)
        tables = [piece.records.to_table() for piece in pieces]
        assert len(pieces) > 2 and pa.concat_tables(tables).equals(records.to_table())
        assert [piece.first for piece in pieces] == [
            sum(table.num_rows for table in tables[:at]) for at in range(len(tables))
        ]
        assert [piece.records.count() for piece in pieces] == [table.num_rows for table in tables]
        assert (
            len(record_pieces.split(records.where(lang="de")))
            == len(record_pieces.split(records.head(9)))
            == 1
        )
    monkeypatch.setattr(record_pieces, "PIECE_BYTES", 1 << 20)
    assert len(record_pieces.split(read("in/*.parquet"))) == 5
