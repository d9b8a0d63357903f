"""A small page on this machine for labelling an audit, one text after the other, with the
keyboard.
"""

from __future__ import annotations

import threading
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pomona.data.audit.labels import read_key, read_labels, set_label
from pomona.errors import PomonaError
from pomona.pages import render
from pomona.workspace import Lock

if TYPE_CHECKING:
    from pomona.web import BackgroundServer

_KINDS = {"number": int, "label": str, "offensive": bool, "porn": bool}


class LabelServer:
    """A running server. `url` holds the token that lets its reader in; close it, or use it in a
    `with` block.
    """

    def __init__(self, folder: Path, host: str, port: int) -> None:
        self._folder, self._lock = folder, threading.Lock()
        place = folder.resolve()
        lock = place.with_name(f".{place.name}.lock")
        # Each label writes the whole file: what another server has saved since would be lost.
        self._held = Lock(lock, doing="labelling it", where=folder, other="audit")
        try:
            self._server = self._started(host, port)
        except BaseException:
            self._held.release()
            raise

    def _started(self, host: str, port: int) -> BackgroundServer:
        from pomona.web import BackgroundServer, LocalApp, listening

        script = files("pomona.data.audit").joinpath("label.js").read_text(encoding="utf-8")
        page = render("pomona.data.audit", "label.html.j2", scripts=[script], talks=True)
        app = LocalApp(page, gets={"/rows": self._rows}, posts={"/label": self._label})
        bound = listening(host, port, remedy="use port 0 for a free one")
        shown, self.port = f"[{host}]" if ":" in host else host, bound.getsockname()[1]
        app.hosts = {f"{name}:{self.port}" for name in (shown, "localhost")}
        self.token, self.url = app.token, f"http://{shown}:{self.port}/#{app.token}"
        return BackgroundServer(app, bound)

    def wait(self) -> None:
        """Serve until `close` is called elsewhere or the process is interrupted."""
        self._server.wait()

    def close(self) -> None:
        """Stop serving; a label on its way is saved first."""
        self._server.close()
        self._held.release()

    def __enter__(self) -> LabelServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self) -> dict[str, Any]:
        with self._lock:
            about, _ = read_key(self._folder)
            rows = [asdict(row) for row in read_labels(self._folder)]
        return {"parallel": about["parallel"], "rows": rows}

    def _label(self, wanted: dict[str, Any]) -> dict[str, Any]:
        from pomona.web import ApiError

        if {name: type(value) for name, value in wanted.items()} != _KINDS:
            raise PomonaError(
                "the request is not a label",
                remedy="send an integer number, a string label, and offensive and porn as booleans",
            )
        try:
            # One label after the other: each writes the whole file.
            with self._lock:
                return asdict(set_label(self._folder, **wanted))
        except OSError as error:
            raise ApiError(500, f"the label was not saved: {error}") from error


def serve_labels(folder: str | Path, host: str = "127.0.0.1", port: int = 0) -> LabelServer:
    """Serve a page on this machine where the sample is labelled with the keyboard; every label is
    saved at once.

    It is in `labels.csv`, whole, before the next text shows. Only this machine can connect, and
    only who has the token in the server's `url`. The pre-labels are not shown. Needs the extra
    `serve`.

    Args:
        folder: Folder of the audit.
        host: A loopback address.
        port: Port; a free one when left out.

    Raises:
        PomonaError: there is no audit in the folder, its `labels.csv` is damaged, the host is no
            loopback address, the port is taken, or the extra is not installed.
    """
    try:
        from pomona.web import is_loopback
    except ImportError as error:
        raise PomonaError(
            f"{error.name} must be installed for the page", remedy="pip install 'pomona[serve]'"
        ) from error
    host = "127.0.0.1" if host == "localhost" else host
    if not is_loopback(host):
        remedy = "use 127.0.0.1; from another machine, forward the port through SSH"
        raise PomonaError(f"{host} can be reached from other machines", where="host", remedy=remedy)
    read_labels(folder)
    return LabelServer(Path(folder), host, port)
