"""Compressed streams as blocks of bytes, in bounded memory, cut short or damaged ones refused."""

from __future__ import annotations

import importlib.util
import lzma
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from pomona.errors import PomonaError

BLOCK = 1 << 20
XZ_MEMORY = 1 << 30  # xz -9 takes 65 MiB
_LONG = 1 << 31  # bytes that zstd --long=31 looks back, the most there is
_PIECE = 1 << 12  # of zstd, which may be 32,000 times as many bytes
_TOO_LONG = "requires too much memory"
Opener = Callable[[str | None], pa.NativeFile]


def unpacked(opener: Opener, compression: str | None, where: str) -> Iterator[bytes]:
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
