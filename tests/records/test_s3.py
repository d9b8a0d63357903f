from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pomona.errors import PomonaError
from pomona.records import listed_in_card, read, write

pytest.importorskip("moto.server", reason='needs a local S3 server: pip install "moto[server]"')
pytestmark = pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")

TABLE = pa.table({"id": [1, 2, 3], "lang": ["nl", "en", "en"]})


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host.replace('0.0.0.0', '127.0.0.1')}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    import boto3

    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="orchard")
    return "s3://orchard"


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz", "a.csv"])
def test_an_object_is_written_and_read(bucket: str, name: str) -> None:
    uri = f"{bucket}/one/{name}"
    write(TABLE, uri)
    typed = read(uri, columns=TABLE.schema)
    assert typed.to_table() == TABLE
    assert typed.where(lang="en").count() == 2
    assert typed.where(lang="en").to_table()["id"].to_pylist() == [2, 3]


def test_globs_and_folders(bucket: str) -> None:
    for shard in (1, 0):
        write(TABLE.slice(shard, 1), f"{bucket}/set/data/train-0000{shard}-of-00002.parquet")
    assert read(f"{bucket}/set").to_table()["id"].to_pylist() == [1, 2]
    assert read(f"{bucket}/set/data/*.parquet").to_table()["id"].to_pylist() == [1, 2]


def test_a_missing_object_is_named_with_its_neighbour(bucket: str) -> None:
    write(TABLE, f"{bucket}/near/train.parquet")
    with pytest.raises(PomonaError) as caught:
        read(f"{bucket}/near/trian.parquet")
    assert (
        str(caught.value)
        == f'{bucket}/near/trian.parquet: no such file — did you mean "train.parquet"?'
    )


def test_folders_and_globs_mean_what_they_mean_on_a_disk(bucket: str) -> None:
    for name in ("a.jsonl", "deep/b.jsonl", "deep/er/c.jsonl", "deep/.hidden/d.jsonl"):
        write(TABLE.select(["id"]), f"{bucket}/rows/{name}")
    assert read(f"{bucket}/rows").count() == 9
    assert read(f"{bucket}/rows/**/*.jsonl").count() == 9
    assert read(f"{bucket}/rows/*/[!x].jsonl").count() == 3
    write(TABLE.select(["id"]), f"{bucket}/rows/lang=nl/e.jsonl")
    with pytest.raises(PomonaError, match="which would be lost: lang=nl"):
        read(f"{bucket}/rows")


def test_results_on_s3_are_checked_listed_and_replaced(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pomona.cli import main

    monkeypatch.chdir(tmp_path)
    out = f"{bucket}/r/o.parquet"
    write(pa.table({"text": ["a", "a", "b"]}), f"{bucket}/r/in.jsonl")
    command = ["data", "dedup", f"{bucket}/r/in.jsonl", "--method", "exact", "--out"]
    for wrong in (f"{bucket}/r/in.jsonl", f"{bucket}//r/in.jsonl"):
        assert main([*command, wrong]) == 2
    for _ in range(2):
        assert main([*command, out]) == 0
    assert read(out).to_table()["text"].to_pylist() == ["a", "b"]
    assert read(f"{out}.pairs.parquet").count() == 1
    assert [one.path for one in listed_in_card(out)] == [out, f"{out}.pairs.parquet"]
    write(TABLE, out)
    assert main([*command, out]) == 2
    assert read(out).to_table() == TABLE
    assert list(tmp_path.iterdir()) == []
