"""Ray gives the bytes that the native engine gives, also when a worker is killed on the way; other engines are refused."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.data.duplicates import dedup
from pomona.records._spread import spread

SCRIPT = """
import json, os, signal, sys, threading, time
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
from ray.cluster_utils import Cluster
from pomona.data.duplicates import dedup
from pomona.errors import PomonaError
from pomona.records._spread import spread

folder, store = sys.argv[1], 80 << 20
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": store, "include_dashboard": False})
cluster.add_node(num_cpus=1, object_store_memory=store)
ray.init(address=cluster.address, log_to_driver=False, logging_level="error")

def suicide(job):
    mark = f"{folder}/{job}.ran"
    if job == 2 and not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid(), job

def wrong(job):
    raise PomonaError("is wrong", where=f"job {job}", remedy="do better")

results = list(spread(suicide, range(6), "ray"))
try:
    list(spread(wrong, [7], "ray"))
except PomonaError as error:
    text = str(error)

import pomona.data.duplicates._work as work
sign_part = work.sign_part
def fatal(job):
    mark = f"{folder}/part{job.part}.ran"
    if job.part == 3 and not os.path.exists(mark):
        open(mark, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return sign_part(job)
work.sign_part = fatal
card = dedup(f"{folder}/in/*.parquet", f"{folder}/ray.parquet", engine="ray")
with open(f"{folder}/said.json", "w") as out:
    json.dump({"jobs": [job for _, job in results], "error": text, "killed": os.path.exists(f"{folder}/part3.ran"),
               "nodes": len(ray.nodes()), "removed": dict(card.removed)}, out)
ray.shutdown()
cluster.shutdown()
"""


def test_native_jobs_run_in_order_and_are_counted() -> None:
    steps: list[tuple[int, int]] = []
    assert list(spread(lambda job: job * 2, [1, 2, 3], progress=lambda *step: steps.append(step))) == [2, 4, 6]
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_ray_with_a_killed_worker_gives_the_native_bytes(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    draw = random.Random(3)
    vocabulary = [draw.randbytes(3).hex() for _ in range(300)]
    texts = [" ".join(draw.choices(vocabulary, k=40)) for _ in range(300)]
    texts += [f"{draw.choice(texts)} {draw.choice(vocabulary)}" for _ in range(100)]
    (tmp_path / "in").mkdir()
    for part in range(5):
        pq.write_table(pa.table({"text": texts[part::5]}), tmp_path / "in" / f"{part}.parquet")
    native = dedup(str(tmp_path / "in" / "*.parquet"), tmp_path / "native.parquet")
    environment = {**os.environ, "RAY_worker_niceness": "0"}
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    said = json.loads((tmp_path / "said.json").read_text())
    assert said["jobs"] == list(range(6)) and said["killed"] and said["nodes"] == 2
    assert said["error"] == "job 7: is wrong — do better"
    assert said["removed"] == dict(native.removed) and native.removed["near"] > 50
    for end in ("", ".pairs.parquet"):
        assert (tmp_path / f"ray.parquet{end}").read_bytes() == (tmp_path / f"native.parquet{end}").read_bytes()
