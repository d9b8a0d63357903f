"""What every server of Pomona stands on: bodies within limits, refusals with their status, who may
ask, and a port to listen on. Part of the ground: it knows no room. Needs the extra `serve`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.web.body import Bodies as Bodies, Receive as Receive, read_json as read_json
    from pomona.web.errors import ApiError as ApiError, ClientGone as ClientGone, wrong as wrong
    from pomona.web.local import LocalApp as LocalApp
    from pomona.web.server import (
        BackgroundServer as BackgroundServer,
        is_loopback as is_loopback,
        listening as listening,
        page_headers as page_headers,
        run_server as run_server,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "body": "Bodies Receive read_json",
        "errors": "ApiError ClientGone wrong",
        "local": "LocalApp",
        "server": "BackgroundServer is_loopback listening page_headers run_server",
    },
)
