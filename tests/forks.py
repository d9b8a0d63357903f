"""A `pomona` that starts at once: what takes a process seconds to import is imported by one, and each
command is a fork of it, with the command's own folder, environment and streams.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

SHIM = """#!{python} -SE
import json, os, signal, socket, sys
link = socket.socket(socket.AF_UNIX)
link.connect({address!r})
told = json.dumps([sys.argv, os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(link, [len(told).to_bytes(4, "big")], [0, 1, 2])
link.sendall(told)
pid = int.from_bytes(link.recv(4), "big")
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(pid, number))
code = int.from_bytes(link.recv(1) or b"\\xff", "big")
os._exit(code)
"""


def install(folder: Path, address: Path) -> None:
    """Put the command into a folder for the PATH; it talks to `address`."""
    command = folder / "pomona"
    command.write_text(SHIM.format(python=sys.executable, address=str(address)))
    command.chmod(0o755)


def serve(address: str) -> None:
    """Answer commands until the process is ended; says on stdout when it is ready."""
    import numba  # noqa: F401
    import torch  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    import pomona.cli  # noqa: F401

    signal.signal(
        signal.SIGCHLD, signal.SIG_IGN
    )  # whoever answered is gone without being waited for
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen()
        gc.freeze()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            link, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                os._exit(_answer(link))
            link.close()


def _answer(link: socket.socket) -> int:
    """One command, run by a child of this one so that the client's end is seen too."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(link, 4, 3)
    told = b""
    while len(told) < int.from_bytes(head, "big"):
        told += link.recv(1 << 16)
    pid = os.fork()
    if pid == 0:
        link.close()
        os._exit(_run(json.loads(told), streams))
    for stream in streams:
        os.close(stream)
    link.sendall(pid.to_bytes(4, "big"))
    ended = os.pidfd_open(pid)
    ready, _, _ = select.select([ended, link], [], [])
    if ended not in ready:  # the client was killed
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):
        link.sendall((code if code >= 0 else 128 - code).to_bytes(1, "big"))
    return 0


def _run(told: Any, streams: list[int]) -> int:
    argv, folder, environment = told
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    from pomona.cli import main

    sys.argv, code = argv, 1
    try:
        sys.exit(main())
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


if __name__ == "__main__":
    serve(sys.argv[1])
