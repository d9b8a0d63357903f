"""Levers on what the model sees: passages, steps of thought, tools, what users said before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.sample.context.bandit import Arm as Arm
    from pomona.sample.context.bandit import thompson as thompson
    from pomona.sample.context.datastore import Datastore as Datastore
    from pomona.sample.context.feedback import Feedback as Feedback
    from pomona.sample.context.feedback import Said as Said
    from pomona.sample.context.index import Index as Index
    from pomona.sample.context.index import Passage as Passage
    from pomona.sample.context.memory import Memory as Memory
    from pomona.sample.context.protocol import Context as Context
    from pomona.sample.context.retrieval import Retrieval as Retrieval
    from pomona.sample.context.steering import Steering as Steering
    from pomona.sample.context.thought import Thought as Thought
    from pomona.sample.context.thought import final_answer as final_answer
    from pomona.sample.context.tools import McpServer as McpServer
    from pomona.sample.context.tools import Tool as Tool
    from pomona.sample.context.tools import Tools as Tools
    from pomona.sample.context.tools import tool as tool

_HOMES = {
    "Arm": "bandit",
    "Context": "protocol",
    "Datastore": "datastore",
    "Feedback": "feedback",
    "Index": "index",
    "McpServer": "tools",
    "Memory": "memory",
    "Passage": "index",
    "Retrieval": "retrieval",
    "Said": "feedback",
    "Steering": "steering",
    "Thought": "thought",
    "Tool": "tools",
    "Tools": "tools",
    "final_answer": "thought",
    "thompson": "bandit",
    "tool": "tools.tool",
}
__all__ = [
    "Arm",
    "Context",
    "Datastore",
    "Feedback",
    "Index",
    "McpServer",
    "Memory",
    "Passage",
    "Retrieval",
    "Said",
    "Steering",
    "Thought",
    "Tool",
    "Tools",
    "final_answer",
    "thompson",
    "tool",
]

__getattr__, __dir__ = lazily(__name__, _HOMES)
