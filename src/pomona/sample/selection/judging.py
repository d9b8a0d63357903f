"""Asking a judge to pick one of several options, and keeping what it reads apart from what it is
told.
"""

from __future__ import annotations

import re
from dataclasses import replace

from pomona.models.chat.protocol import Request
from pomona.sample.selection.choice import Desk


def fenced(tag: str, text: str) -> str:
    """Untrusted text between tags it cannot close."""
    return f"<{tag}>\n{text.replace(f'</{tag}', f'< /{tag}')}\n</{tag}>"


async def pick(desk: Desk, request: Request) -> int | None:
    """The number of the option that the arbiter picks, from 0; None when it picks none.

    Where the arbiter cannot be held to options, the first option in what it says counts.
    """
    options = request.options
    held = "options" in desk.arbiter.abilities
    reply = await desk.ask(request if held else replace(request, options=()))
    said = reply.text.strip()
    if said in options:
        return options.index(said)
    found = re.search(
        r"\b(?:"
        + "|".join(re.escape(option) for option in sorted(options, key=len, reverse=True))
        + r")\b",
        said,
    )
    return options.index(found[0]) if found else None
