"""Where bytes live: local paths and s3:// addresses, listed in a fixed order and opened as plain
streams.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from pomona.errors import PomonaError, first_line, nearest

BLOCK = 1 << 20
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".arrow": "arrow",
}


def is_remote(uri: str) -> bool:
    """Whether `uri` is an s3:// address."""
    return uri.startswith("s3://")


@functools.cache
def _s3(endpoint: str | None, region: str | None) -> fs.FileSystem:
    if not endpoint:
        return fs.S3FileSystem(region=region)
    address = urlsplit(endpoint)
    return fs.S3FileSystem(
        endpoint_override=address.netloc, scheme=address.scheme, region=region or "us-east-1"
    )


def locate(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of `uri` and the path within it. S3 follows the AWS_* variables,
    AWS_ENDPOINT_URL included.
    """
    if not is_remote(uri):
        return fs.LocalFileSystem(), uri
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return _s3(endpoint, region), uri.removeprefix("s3://").rstrip("/")


def format_of(uri: str) -> tuple[str, str | None]:
    """Format and compression by suffix. Raises PomonaError for a suffix Pomona does not know."""
    suffixes = PurePosixPath(uri).suffixes
    compression = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    last = suffixes[:-1][-1:] if compression else suffixes[-1:]
    kind = FORMATS.get(last[0]) if last else None
    if kind is None or (compression and kind in ("parquet", "arrow")):
        remedy = "use .parquet, .jsonl(.gz|.zst) or .csv(.gz|.zst)"
        raise PomonaError("not a table Pomona can name the format of", where=uri, remedy=remedy)
    return kind, compression


def info(uri: str) -> fs.FileInfo:
    """What is at `uri`. Raises PomonaError when the store cannot be asked."""
    store, path = locate(uri)
    try:
        return store.get_file_info(path)
    except OSError as error:
        raise unreadable(uri, error) from error


def children(uri: str, *, recursive: bool = False) -> list[str]:
    """Addresses of the visible files under a folder, in name order."""
    store, path = locate(uri)
    wanted = fs.FileSelector(path, recursive=recursive, allow_not_found=True)
    try:
        listed = store.get_file_info(wanted)
    except OSError as error:
        raise unreadable(uri, error) from error
    return sorted(
        f"s3://{item.path}" if is_remote(uri) else item.path
        for item in listed
        if item.type == fs.FileType.File and not item.base_name.startswith((".", "_"))
    )


def expand(pattern: str) -> list[str]:
    """The files a glob matches, in name order. Raises PomonaError when there are none."""
    plain = pattern[: min(pattern.index(sign) for sign in "*?[" if sign in pattern)]
    fixed = plain.rpartition("/")[0] or ("/" if plain.startswith("/") else ".")
    if is_remote(pattern):
        below = children(fixed, recursive=True)
        matching = [uri for uri in below if PurePosixPath(uri).match(pattern)]
    else:
        paths = glob.iglob(pattern, recursive=True)  # noqa: PTH207
        matching = sorted(path for path in paths if Path(path).is_file())
    if not matching:
        remedy = _suggest(fixed, pattern.rsplit("/", 1)[-1])
        raise PomonaError("no file matches the pattern", where=pattern, remedy=remedy)
    return matching


def missing(uri: str) -> PomonaError:
    """The error for a file that is not there, with the nearest name beside it."""
    folder, _, name = uri.rstrip("/").rpartition("/")
    return PomonaError("no such file", where=uri, remedy=_suggest(folder or ".", name))


def _suggest(folder: str, name: str) -> str:
    if info(folder).type != fs.FileType.Directory:
        return f"its folder {folder} does not exist either; check the path"
    names = [PurePosixPath(uri).name for uri in children(folder)]
    if len(names) > 12:
        alike = fnmatch.filter(names, f"*{PurePosixPath(name).suffix}")[:3]
        names = difflib.get_close_matches(name, names, n=1) or alike
    none = f"the folder {folder} holds no such files; check the path"
    return nearest(name, names) if names else none


def unreadable(uri: str, error: BaseException) -> PomonaError:
    """The error for bytes that cannot be read or decompressed."""
    return PomonaError(
        f"cannot be read: {first_line(error)}",
        where=uri,
        remedy="the file may be damaged or cut short; fetch or write it again",
    )


@contextmanager
def readable(uri: str) -> Iterator[None]:
    """What fails in the block, fails as bytes that cannot be read. Raises PomonaError."""
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise unreadable(uri, error) from error


def blocks(uri: str) -> Iterator[bytes]:
    """The file's bytes, decompressed by suffix, a block at a time. Raises PomonaError for damaged
    or unreadable files.
    """
    store, path = locate(uri)
    packed = COMPRESSIONS.get(PurePosixPath(uri).suffix)
    with readable(uri), store.open_input_stream(path, compression=packed) as stream:
        while block := stream.read(BLOCK):
            yield block


def lines(uri: str) -> Iterator[bytes]:
    """The file's lines, without their newline and without a byte-order mark. Only one line and one
    block are in memory.
    """
    parts: list[bytes] = []
    first = True
    for block in blocks(uri):
        if first:
            block, first = block.removeprefix(b"\xef\xbb\xbf"), False
        if b"\n" not in block:
            parts.append(block)
            continue
        *whole, rest = b"".join([*parts, block]).split(b"\n")
        yield from whole
        parts = [rest]
    if last := b"".join(parts):
        yield last
