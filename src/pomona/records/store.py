"""Where bytes live: local paths and s3:// addresses, listed in a fixed order and opened as plain
streams.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import glob
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from pomona.errors import PomonaError, first_line, nearest
from pomona.files import address, check_name
from pomona.records.compression import unpacked

LONGEST = 64 << 20  # bytes of a line
COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}
FORMATS = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "txt",
    ".arrow": "arrow",
}


def is_remote(uri: str | Path) -> bool:
    """Whether `uri` is an s3:// address."""
    return address(uri).startswith("s3://")


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
    AWS_ENDPOINT_URL included. Raises PomonaError for a name that is none.
    """
    check_name(uri)
    if not is_remote(uri):
        # To Arrow a name like a:b would be an address.
        return fs.LocalFileSystem(), uri if uri.startswith("/") else f"./{uri}"
    uri = address(uri)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    return _s3(endpoint, region), uri.removeprefix("s3://").rstrip("/")


def format_of(uri: str) -> tuple[str, str | None]:
    """Format and compression by suffix. Raises PomonaError for a suffix Pomona does not know."""
    suffixes = PurePosixPath(uri.lower()).suffixes
    compression = COMPRESSIONS.get(suffixes[-1]) if suffixes else None
    last = suffixes[:-1][-1:] if compression else suffixes[-1:]
    kind = FORMATS.get(last[0]) if last else None
    if kind is None or (compression and kind in ("parquet", "arrow")):
        remedy = (
            "use .parquet, or .jsonl, .csv, .tsv or .txt (and .gz, .zst, .bz2 or .xz behind it)"
        )
        raise PomonaError("not a table Pomona can name the format of", where=uri, remedy=remedy)
    return kind, compression


def info(uri: str) -> fs.FileInfo:
    """What is at `uri`. Raises PomonaError when the store cannot be asked."""
    store, path = locate(uri)
    with readable(uri):
        return store.get_file_info(path)


def children(uri: str, *, recursive: bool = False) -> list[str]:
    """Addresses of what is under a folder but folders, in name order: files, and on a disk what
    only looks like one. Names that begin with a dot are left out.

    Raises PomonaError when a folder cannot be listed, or is a link to one that it is in.
    """
    if not is_remote(uri):
        return sorted(_below(uri, recursive, ()))
    store, path = locate(uri)
    wanted = fs.FileSelector(path, recursive=recursive, allow_not_found=True)
    with readable(uri):
        listed = store.get_file_info(wanted)
    start = len(path) + 1
    return sorted(
        f"s3://{item.path}"
        for item in listed
        if item.type == fs.FileType.File
        and not any(part.startswith(".") for part in item.path[start:].split("/"))
    )


def _below(folder: str, recursive: bool, above: tuple[str, ...]) -> Iterator[str]:
    """Links to folders are followed: the hub's cache is made of links."""
    here = os.path.realpath(folder)
    if here in above:
        remedy = "remove the link, or name the files"
        raise PomonaError("is a link to a folder that it is in", where=folder, remedy=remedy)
    with readable(folder), os.scandir(folder) as listed:
        names = [entry.name for entry in listed if not entry.name.startswith(".")]
    for name in names:
        path = name if folder == "." else f"{folder.rstrip('/')}/{name}"
        if not os.path.isdir(path):  # noqa: PTH112 (a link to itself is no folder)
            yield path
        elif recursive:
            yield from _below(path, True, (*above, here))


def expand(pattern: str) -> list[str]:
    """The files and folders a glob matches, in name order; with `**`, which matches whatever is
    below, only the files. Raises PomonaError when there are none.
    """
    plain = pattern[: min(pattern.index(sign) for sign in "*?[" if sign in pattern)]
    fixed = plain.rpartition("/")[0] or ("/" if plain.startswith("/") else ".")
    if is_remote(pattern):
        matches = re.compile(_remote_pattern(pattern))
        matching = [uri for uri in children(fixed, recursive=True) if matches.fullmatch(uri)]
    else:
        paths = glob.iglob(pattern, recursive=True)  # noqa: PTH207
        deep = "**" in pattern
        matching = sorted(path for path in paths if not (deep and Path(path).is_dir()))
    if not matching:
        remedy = _suggest(fixed, pattern.rsplit("/", 1)[-1])
        raise PomonaError("no file matches the pattern", where=pattern, remedy=remedy)
    return matching


def _remote_pattern(pattern: str) -> str:
    """A glob as a regular expression, with the meaning it has on a disk."""
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\])", pattern)
    return "".join(
        signs.get(part) or (part.replace("[!", "[^") if at % 2 else re.escape(part))
        for at, part in enumerate(parts)
    )


def missing(uri: str) -> PomonaError:
    """The error for a file that is not there, with the nearest name beside it."""
    folder, _, name = uri.rstrip("/").rpartition("/")
    if not is_remote(uri) and Path(uri).is_symlink():
        remedy = "mend the link"
        return PomonaError("is a link to what is not there", where=uri, remedy=remedy)
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


_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_regular(uri: str) -> None:
    """Raise PomonaError when there is something at `uri` that only looks like a file, and when it
    cannot be asked for.
    """
    if is_remote(uri):
        return
    with readable(uri):
        kind = _KINDS.get(stat.S_IFMT(Path(uri).stat().st_mode))
    if kind is not None:
        remedy = "write its rows to a file first: they are read more than once"
        raise PomonaError(f"is {kind}, not a file", where=uri, remedy=remedy)


_LOADER = re.compile(r"^Error creating dataset\..*?input source '.*?': ", re.DOTALL)
_DENIED = ("ACCESS_DENIED", "Permission denied", "errno 13")
_UNREACHED = ("NETWORK_CONNECTION", "curlCode", "Couldn't resolve host", "errno 5]")


def unreadable(uri: str, error: BaseException) -> PomonaError:
    """The error for bytes that cannot be read or decompressed."""
    said = _LOADER.sub("", first_line(error))
    damaged = "the file may be damaged or cut short; fetch or write it again"
    if isinstance(error, PermissionError) or any(sign in str(error) for sign in _DENIED):
        said, remedy = "no permission to read it", "change its permissions, or ask its owner"
    elif isinstance(error, FileNotFoundError) or "errno 2]" in str(error):
        said, remedy = "it is not there (any more)", "check the path"
    elif "duplicate field names" in said:
        said, remedy = "two columns have one name", "write it again with other names"
    elif isinstance(error, pa.ArrowNotImplementedError):
        said, remedy = f"{said} is not supported", "write it again without such a column"
    elif "decrypt" in said:
        said, remedy = "it is encrypted", "decrypt it first"
    elif any(sign in str(error) for sign in _UNREACHED):
        remedy = "check the connection or the disk, then run again"
    else:
        remedy = damaged
    return PomonaError(f"cannot be read: {said}", where=uri, remedy=remedy)


@contextmanager
def readable(uri: str) -> Iterator[None]:
    """What fails in the block, fails as bytes that cannot be read. Raises PomonaError."""
    try:
        yield
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise unreadable(uri, error) from error


def blocks(uri: str) -> Iterator[bytes]:
    """The file's bytes, decompressed by suffix, a block at a time. Raises PomonaError for damaged
    or unreadable files.
    """
    packed = COMPRESSIONS.get(PurePosixPath(uri.lower()).suffix)
    with readable(uri):
        yield from unpacked(lambda kind: _opened(uri, kind), packed, uri)


def _opened(uri: str, compression: str | None) -> pa.NativeFile:
    store, path = locate(uri)
    return store.open_input_stream(path, compression=compression)


def unfinished(uri: str) -> bool:
    """Whether the file's last line lacks its newline."""
    last = b"\n"
    for block in blocks(uri):
        last = block[-1:]
    return last != b"\n"


def lines(uri: str) -> Iterator[bytes]:
    """The file's lines, without their newline and without a byte-order mark. Only one line and one
    block are in memory, and of a line no more than tells that it is too long.
    """
    for block in line_blocks(uri):
        yield from block.split(b"\n")


def line_blocks(uri: str) -> Iterator[bytes]:
    """The same, many lines together, with newlines between them."""
    parts: list[bytes] = []
    size, first = 0, True
    for block in blocks(uri):
        if first:
            block, first = block.removeprefix(b"\xef\xbb\xbf"), False
        if b"\n" not in block:
            if size <= LONGEST:
                parts.append(block)
                size += len(block)
            continue
        whole, _, rest = b"".join([*parts, block]).rpartition(b"\n")
        yield whole
        parts, size = [rest], len(rest)
    if last := b"".join(parts):
        yield last
