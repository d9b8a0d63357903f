"""Functions and MCP servers that a model may call while it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.sample.context.tools.builtin import calculator as calculator, clock as clock
    from pomona.sample.context.tools.definition import (
        Refused as Refused,
        Tool as Tool,
        tool as tool,
    )
    from pomona.sample.context.tools.loop import Tools as Tools
    from pomona.sample.context.tools.servers import McpServer as McpServer, running as running

__getattr__, __dir__ = lazily(
    __name__,
    {
        "builtin": "calculator clock",
        "definition": "Refused Tool tool",
        "loop": "Tools",
        "servers": "McpServer running",
    },
)
