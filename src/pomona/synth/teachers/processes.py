"""One process that reads a batch and writes answers, kept within time and size whatever it does."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

_SAID = 2000  # bytes of the standard error that are kept
_ROOM = 1 << 20  # bytes that any answer may have, beside 64 times its text


@dataclass(frozen=True)
class Output:
    """What a process wrote, the CPU seconds of it and its children, and why it does not count; None
    where it ended well.
    """

    written: bytes
    cpu_seconds: float
    failure: str | None
    said: str


def run_process(command: Sequence[str], data: bytes, timeout: float) -> Output:
    """Give `data` to the standard input of a command, and wait for its end.

    Never raises for what the command does: one that hangs or writes without end is ended with all
    that it started.
    """
    with tempfile.TemporaryFile() as source:  # a pipe could block against one that does not read
        source.write(data)
        source.seek(0)
        try:
            process = subprocess.Popen(
                command,
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            return Output(b"", 0.0, f"cannot be started: {error.strerror}", "")
        with process:
            try:
                return _watched(process, time.monotonic() + timeout, timeout, 64 * len(data))
            finally:
                _end(process)


def _watched(
    process: subprocess.Popen[bytes], deadline: float, timeout: float, most: int
) -> Output:
    written, said, failure = bytearray(), bytearray(), None
    assert process.stdout is not None and process.stderr is not None
    with selectors.DefaultSelector() as streams:
        streams.register(process.stdout, selectors.EVENT_READ, written)
        streams.register(process.stderr, selectors.EVENT_READ, said)
        while streams.get_map() and failure is None:
            for key, _ in streams.select(max(0.0, deadline - time.monotonic())):
                data = os.read(key.fd, 1 << 16)
                key.data.extend(data)
                if not data:
                    streams.unregister(key.fileobj)
            del said[:-_SAID]
            if len(written) > most + _ROOM:
                failure = f"wrote more than {most + _ROOM:,} bytes"
            elif streams.get_map() and time.monotonic() >= deadline:
                failure = f"wrote no end within {timeout:g} s"
    if failure is not None:
        _end(process)
    status, seconds = _waited(process.pid, deadline)
    if status is None:
        failure = failure or f"did not end within {timeout:g} s"
        _end(process)
        status, seconds = _waited(process.pid, time.monotonic() + 5)
    process.returncode = -1 if status is None else os.waitstatus_to_exitcode(status)
    if failure is None and process.returncode:
        failure = f"ended with status {process.returncode}"
    return Output(bytes(written), seconds, failure, said.decode("utf-8", "replace").strip())


def _waited(pid: int, deadline: float) -> tuple[int | None, float]:
    """The status of a process that ended before the deadline, and its CPU seconds."""
    pause = 0.0005
    while True:
        # Not Popen.wait: the CPU time of one child, with all that it waited for, is told only here.
        ended, status, used = os.wait4(pid, os.WNOHANG)
        if ended:
            return status, used.ru_utime + used.ru_stime
        if time.monotonic() >= deadline:
            return None, 0.0
        time.sleep(pause)
        pause = min(pause * 2, 0.02)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started, which share its process group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
