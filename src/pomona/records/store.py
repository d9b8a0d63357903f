"""Where bytes live: local paths and s3:// addresses, listed in a fixed order and opened as plain
streams.
"""

from __future__ import annotations

import difflib
import fnmatch
import functools
import glob
import importlib.util
import lzma
import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from pomona.errors import PomonaError, first_line, nearest
from pomona.places import address, check_name, glob_pattern

BLOCK = 1 << 20
XZ_MEMORY = 1 << 30  # xz -9 takes 65 MiB
_LONG = 1 << 31  # bytes that zstd --long=31 looks back, the most there is
_PIECE = 1 << 12  # of zstd, which may be 32,000 times as many bytes
_TOO_LONG = "requires too much memory"
Opener = Callable[[str | None], pa.NativeFile]
LONGEST = 64 << 20  # bytes of a line
MARK = b"\xef\xbb\xbf"  # of the byte order, before UTF-8
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
        matches = re.compile(glob_pattern(pattern))
        matching = [uri for uri in children(fixed, recursive=True) if matches.fullmatch(uri)]
    else:
        paths = glob.iglob(pattern, recursive=True)  # noqa: PTH207
        deep = "**" in pattern
        matching = sorted(path for path in paths if not (deep and Path(path).is_dir()))
    if not matching:
        remedy = _suggest(fixed, pattern.rsplit("/", 1)[-1])
        raise PomonaError("no file matches the pattern", where=pattern, remedy=remedy)
    return matching


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
        yield from _unpacked(lambda kind: _opened(uri, kind), packed, uri)


def _opened(uri: str, compression: str | None) -> pa.NativeFile:
    store, path = locate(uri)
    return store.open_input_stream(path, compression=compression)


def _unpacked(opener: Opener, compression: str | None, where: str) -> Iterator[bytes]:
    """The bytes of what `opener` opens, by itself or with a compression that Arrow reads.

    Raises OSError where they are damaged or cut short, and PomonaError where more memory is needed
    to read them than is taken.
    """
    if compression == "xz":
        yield from _xz(opener, where)
        return
    done = 0
    try:
        with opener(compression) as stream:
            # `read` of Arrow loses the memory of a block that cannot be read.
            while block := stream.read_buffer(BLOCK).to_pybytes():
                done += len(block)
                yield block
    except OSError as error:
        if compression != "zstd" or _TOO_LONG not in str(error):
            raise
        yield from _long_zstd(opener, done, where)


def _raw(opener: Opener, size: int) -> Iterator[bytes]:
    with opener(None) as stream:
        while block := stream.read_buffer(size).to_pybytes():
            yield block


def _xz(opener: Opener, where: str) -> Iterator[bytes]:
    """One stream behind the other, with zeros between them."""
    reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY)
    try:
        for block in _raw(opener, BLOCK):
            block = block.lstrip(b"\0") if reader.eof else block
            while block or not (reader.eof or reader.needs_input):
                if reader.eof:
                    reader = lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY)
                if made := reader.decompress(block, BLOCK):
                    yield made
                block = reader.unused_data.lstrip(b"\0") if reader.eof else b""
    except lzma.LZMAError as error:
        if "Memory usage limit" in str(error):
            message = f"xz needs more than {XZ_MEMORY >> 20} MiB of memory to read it"
            remedy = "compress it again with xz -9 or less"
            raise PomonaError(message, where=where, remedy=remedy) from error
        raise OSError(f"xz decompress failed: {error}") from error
    if not reader.eof:
        raise OSError("Truncated compressed stream")


def _long_zstd(opener: Opener, done: int, where: str) -> Iterator[bytes]:
    """Frames that look back farther than Arrow allows, without the first `done` bytes."""
    if importlib.util.find_spec("zstandard") is None:
        message = "zstd --long has compressed it, which takes up to 2 GiB of memory to read"
        remedy = "pip install 'pomona[zstd]', or compress it again with --long=27 or less"
        raise PomonaError(message, where=where, remedy=remedy)
    import zstandard

    context = zstandard.ZstdDecompressor(max_window_size=_LONG)
    reader: Any = context.decompressobj()
    try:
        for block in _raw(opener, _PIECE):
            while block:
                if reader.eof:
                    reader = context.decompressobj()
                made = reader.decompress(block)
                block = reader.unused_data if reader.eof else b""
                left, done = made[done:], max(0, done - len(made))
                if left:
                    yield left
    except zstandard.ZstdError as error:
        raise OSError(f"ZSTD decompress failed: {error}") from error
    if not reader.eof:
        raise OSError("Truncated compressed stream")


def is_marked(uri: str) -> bool:
    """Whether the file begins with a mark of its byte order."""
    return next(blocks(uri), b"").startswith(MARK)


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
            block, first = block.removeprefix(MARK), False
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
