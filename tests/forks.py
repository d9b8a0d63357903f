"""Programs that start at once: what takes seconds to import has been imported by the tests, and
each program is a fork of them as they were before the first test, with its own folder, environment
and streams.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import tempfile
import threading
import traceback
import types
import warnings
from pathlib import Path
from typing import Any, NoReturn

HEAVY = (
    "numba", "scipy.stats", "torch", "transformers.models.llama.modeling_llama",
    "transformers.trainer", "pomona.cli", "pomona.cli.command", "pomona.recipe.running",
    "pomona.records.engines", "pyarrow.dataset", "httpx", "rich.progress", "rich.table",
    "rich.markdown", "rich.traceback", "sqlite3", "jinja2",
)  # fmt: skip

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
code = int.from_bytes(link.recv(2) or b"\\xff", "big", signed=True)
if code < 0:
    signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
    os.kill(os.getpid(), -code)
os._exit(code)
"""


class Forks:
    """`folder` has a `pomona` and a `python` (`-c CODE …`, `FILE …`) until this is closed or its
    process ends. A program that is killed by SIGKILL from outside ends a moment later.
    """

    def __init__(self) -> None:
        _warm()
        # An address must be short, which a folder of pytest's need not be.
        self._short = tempfile.TemporaryDirectory(dir="/tmp")
        self.folder = Path(self._short.name)
        ended, self._alive = os.pipe()
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.folder / "socket"))
            listening.listen()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # threads of pytest stay behind, and are not needed
                self._pid = os.fork()
            if self._pid == 0:
                _serve(listening, ended)
        os.close(ended)
        for name in ("pomona", "python"):
            shim = self.folder / name
            address = str(self.folder / "socket")
            shim.write_text(SHIM.format(python=sys.executable, address=address))
            shim.chmod(0o755)

    def close(self) -> None:
        os.close(self._alive)
        os.waitpid(self._pid, 0)
        self._short.cleanup()


def _warm() -> None:
    """What many programs import, load and read, and what therefore is there before the first."""
    gc.disable()  # none of it is garbage
    for module in HEAVY:
        importlib.import_module(module)
    from pomona.recipe import code, steps
    from pomona.recipe.levers import known_levers
    from pomona.tasks import metric

    known_levers()

    metric("chrf").statistics(["a"], ["a"])
    for file in Path(steps.__file__).parent.glob("[a-z]*.py"):
        code.code_key(f"{steps.__name__}.{file.stem}")
    gc.collect()
    gc.freeze()
    gc.enable()


def _serve(listening: socket.socket, ended: int) -> NoReturn:
    """Answer commands until nobody holds the other end of `ended`."""
    try:
        _let_go_but({listening.fileno(), ended})
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # who answered is not waited for
        while ended not in select.select([listening, ended], [], [])[0]:
            link, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                _answer(link)
            link.close()
    finally:
        os._exit(0)


def _let_go_but(kept: set[int]) -> None:
    """Whoever reads what the parent writes must see it end with the parent. Numbers stay taken, as
    objects that own them may yet close them.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for number in [int(path.name) for path in Path("/dev/fd").iterdir()]:
        if number not in kept | {null}:
            os.dup2(null, number, inheritable=number < 3)


def _answer(link: socket.socket) -> NoReturn:
    """One command, run by a child of this one so that the client's end is seen too."""
    try:
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
        if ended not in select.select([ended, link], [], [])[0]:  # the client was killed
            os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with contextlib.suppress(OSError):
            link.sendall(code.to_bytes(2, "big", signed=True))
    finally:
        os._exit(0)


def _run(told: Any, streams: list[int]) -> int:
    (name, *arguments), folder, environment = told
    _as_new(streams)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # The pool of threads is made anew after a fork, by whoever asks first: two at once spoil it.
    sys.modules["torch"].set_num_threads(sys.modules["torch"].get_num_threads())
    code = 1
    try:
        _main(Path(name).name, arguments)
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
    except BaseException:
        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    return code


def _as_new(streams: list[int]) -> None:
    """Streams, hooks and warnings as a Python that has just started has them."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    sys.excepthook, sys.unraisablehook = sys.__excepthook__, sys.__unraisablehook__
    threading.excepthook = threading.__excepthook__
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(
            number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        )
    warnings.resetwarnings()
    for category in (
        DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning
    ):  # fmt: skip
        warnings.simplefilter("ignore", category)


def _main(program: str, arguments: list[str]) -> None:
    if program == "pomona":
        sys.argv = [program, *arguments]
        from pomona.cli import main

        sys.exit(main())
    elif arguments[0] == "-c":
        sys.argv = ["-c", *arguments[2:]]
        sys.path.insert(0, "")
        main_module = types.ModuleType("__main__")
        sys.modules["__main__"] = main_module
        exec(compile(arguments[1], "<string>", "exec"), vars(main_module))
    else:
        sys.argv = arguments
        sys.path.insert(0, str(Path(arguments[0]).parent))
        runpy.run_path(arguments[0], run_name="__main__")
