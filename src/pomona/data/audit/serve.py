"""A small page on this machine for labelling an audit, one text after the other, with the
keyboard.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import secrets
import socket
import threading
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

from pomona.data.audit.labels import read_key, read_labels, set_label
from pomona.errors import PomonaError

_LIMIT = 4096


class LabelServer:
    """A running server. `url` holds the token that lets its reader in; close it, or use it in a
    `with` block.
    """

    def __init__(self, folder: Path, host: str, port: int) -> None:
        self.folder, self.token, self.lock = folder, secrets.token_urlsafe(24), threading.Lock()
        self._http = _Server((host, port), _Handler)
        self._http.owner = self
        shown = f"[{host}]" if ":" in host else host
        self.hosts = {f"{name}:{self.port}" for name in (shown, "localhost")}
        self.url = f"http://{shown}:{self.port}/#{self.token}"
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._http.server_address[1]

    def wait(self) -> None:
        """Serve until `close` is called elsewhere or the process is interrupted."""
        while self._thread.is_alive():
            self._thread.join(0.5)

    def close(self) -> None:
        """Stop serving; a label on its way is saved first."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        with self.lock:
            pass

    def __enter__(self) -> LabelServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve_labels(folder: str | Path, host: str = "127.0.0.1", port: int = 0) -> LabelServer:
    """Serve the labelling page of the audit in `folder`; every label is in `labels.csv`, whole,
    before the next text shows.

    Only this machine can connect, and only who has the token in the server's `url`. The pre-labels
    are not shown. `port` 0 takes a free one. Nothing beyond the standard library is needed.

    Raises:
        PomonaError: there is no audit in the folder, its `labels.csv` is damaged, the host is no
            loopback address, or the port is taken.
    """
    host = "127.0.0.1" if host == "localhost" else host
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    if not local:
        remedy = "use 127.0.0.1; from another machine, forward the port through SSH"
        raise PomonaError(f"{host} can be reached from other machines", where="host", remedy=remedy)
    read_labels(folder)
    try:
        return LabelServer(Path(folder), host, port)
    except (OSError, OverflowError) as error:
        raise PomonaError(
            f"cannot listen: {error}", where=f"{host}:{port}", remedy="use port 0 for a free one"
        ) from error


class _Server(ThreadingHTTPServer):
    owner: LabelServer
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "pomona", ""
    timeout = 30

    @property
    def owner(self) -> LabelServer:
        """The server that this request came to."""
        assert isinstance(self.server, _Server)
        return self.server.owner

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on stderr for every label."""

    def do_GET(self) -> None:
        """The page, and the rows to be labelled."""
        if not self._host_is_ours():
            return
        if self.path == "/":
            page, policy = _page()
            self._send(HTTPStatus.OK, page, "text/html; charset=utf-8", policy)
        elif self.path == "/rows":
            if self._has_token():
                self._answer(self._rows)
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        if not self._host_is_ours():
            return
        if self.path != "/label":
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
        elif self._has_token():
            self._answer(self._label)

    def _host_is_ours(self) -> bool:
        """Another name for this address is a page elsewhere that rebound its own name to it."""
        ours = self.headers.get("Host", "").lower() in self.owner.hosts
        if not ours:
            self._refuse(HTTPStatus.FORBIDDEN, "open the address that was printed")
        return ours

    def _has_token(self) -> bool:
        given = self.headers.get("X-Pomona-Token", "").encode("latin-1", "replace")
        right = hmac.compare_digest(given, self.owner.token.encode())
        if not right:
            self._refuse(
                HTTPStatus.FORBIDDEN,
                "the token is missing or of another server: open the address that was printed",
            )
        return right

    def _rows(self) -> Any:
        with self.owner.lock:
            about, _ = read_key(self.owner.folder)
            return {
                "parallel": about["parallel"],
                "rows": [asdict(row) for row in read_labels(self.owner.folder)],
            }

    def _label(self) -> Any:
        wanted = self._body()
        with self.owner.lock:
            return asdict(set_label(self.owner.folder, **wanted))

    def _body(self) -> dict[str, Any]:
        size = self.headers.get("Content-Length", "")
        if (
            not size.isdigit()
            or int(size) > _LIMIT
            or self.headers.get_content_type() != "application/json"
        ):
            raise PomonaError("the request is not a label", remedy="send JSON with its length")
        try:
            value = json.loads(self.rfile.read(int(size)))
            kinds = {name: type(value[name]) for name in ("number", "label", "offensive", "porn")}
        except (ValueError, TypeError, KeyError) as error:
            raise PomonaError(
                "the request is not a label", remedy="send number, label, offensive and porn"
            ) from error
        if kinds != {"number": int, "label": str, "offensive": bool, "porn": bool} or len(
            value
        ) > len(kinds):
            raise PomonaError(
                "the request is not a label", remedy="send an integer, a string and two booleans"
            )
        return value

    def _answer(self, work: Any) -> None:
        try:
            value = work()
        except PomonaError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except OSError as error:
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"the label was not saved: {error}")
        else:
            self._send(HTTPStatus.OK, json.dumps(value).encode(), "application/json")

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(status, json.dumps({"error": why}).encode(), "application/json")

    def _send(
        self, status: HTTPStatus, body: bytes, kind: str, policy: str = "default-src 'none'"
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": (
                f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _page() -> tuple[bytes, str]:
    """The page, and the policy that lets it run its own script only."""
    text = files("pomona.data.audit").joinpath("label.html").read_text(encoding="utf-8")
    script = text.partition("<script>")[2].partition("</script>")[0]
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        text.encode(),
        (
            f"default-src 'none'; script-src 'sha256-{allowed}'; style-src 'unsafe-inline'; "
            "connect-src 'self'; img-src data:"
        ),
    )
