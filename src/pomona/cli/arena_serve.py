"""How `pomona arena serve` says where it is and how its lead comes in."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pomona.cli.output import Out
from pomona.pages import clean

if TYPE_CHECKING:
    from pomona.arena.annotating import ArenaServer


def show_serve(out: Out, server: ArenaServer, given: Mapping[str, Any]) -> None:
    """The address, and the lead's link, which works once; then serve. Notes go to stderr."""
    with server:
        out.line(server.url)
        if server.link:
            out.line(f"link for {' '.join(given['lead'].split())}, once: {server.link}")
        sys.stdout.flush()
        for note in server.notes:
            sys.stderr.write(f"note: {clean(note)}\n")
        server.wait()
