from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from pomona.merge.report.card import FileHashes


def old(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    os.utime(path, (10**9, 10**9))
    return path


def test_a_hash_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    files = [old(tmp_path / name, name.encode() * 1000) for name in "abc"]
    wanted = {file: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    first = FileHashes([*files, files[0]], 2)
    assert (first.result(), first.read) == (wanted, 3000)
    again = FileHashes(files, 1)
    assert (again.result(), again.read) == (wanted, 0)
    old(files[1], b"x" * 1000)
    os.utime(files[1], (10**9, 10**9 + 1))
    changed = FileHashes(files, 1)
    assert changed.read == 1000
    assert changed.result()[files[1]] == hashlib.sha256(b"x" * 1000).hexdigest()


def test_a_file_as_young_as_its_hash_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    FileHashes([tmp_path / "a"], 1).result()
    assert FileHashes([tmp_path / "a"], 1).read == 1


def test_the_hub_names_its_large_files_by_their_hash(tmp_path: Path) -> None:
    name = hashlib.sha256(b"weights").hexdigest()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / name).write_bytes(b"weights")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs" / name)
    hashes = FileHashes([tmp_path / "model.safetensors"], 1)
    assert (hashes.read, hashes.result()) == (0, {tmp_path / "model.safetensors": name})


@pytest.mark.parametrize("content", ["[1", "[]", '{"a": 1}'])
def test_a_broken_cache_only_costs_time(tmp_path: Path, content: str) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "hashes.json").write_text(content)
    file = old(tmp_path / "a", b"a")
    assert FileHashes([file], 1).result() == {file: hashlib.sha256(b"a").hexdigest()}
    assert FileHashes([file], 1).read == 0
