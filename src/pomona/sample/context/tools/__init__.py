"""Functions and MCP servers that a model may call while it answers."""

from __future__ import annotations

from pomona.sample.context.tools.builtin import calculator, clock
from pomona.sample.context.tools.loop import Tools
from pomona.sample.context.tools.servers import McpServer, running
from pomona.sample.context.tools.tool import Tool, tool

__all__ = ["McpServer", "Tool", "Tools", "calculator", "clock", "running", "tool"]
