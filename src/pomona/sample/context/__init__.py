"""Levers on what the model sees: passages, steps of thought, tools, what users said before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.sample.context.bandit import Arm as Arm, thompson as thompson
    from pomona.sample.context.datastore import Datastore as Datastore
    from pomona.sample.context.feedback import Feedback as Feedback, Said as Said
    from pomona.sample.context.index import Index as Index, Passage as Passage
    from pomona.sample.context.memory import Memory as Memory
    from pomona.sample.context.protocol import Context as Context
    from pomona.sample.context.retrieval import Retrieval as Retrieval
    from pomona.sample.context.steering import Steering as Steering
    from pomona.sample.context.thought import Thought as Thought, final_answer as final_answer
    from pomona.sample.context.tools import (
        McpServer as McpServer,
        Tool as Tool,
        Tools as Tools,
        tool as tool,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "bandit": "Arm thompson",
        "datastore": "Datastore",
        "feedback": "Feedback Said",
        "index": "Index Passage",
        "memory": "Memory",
        "protocol": "Context",
        "retrieval": "Retrieval",
        "steering": "Steering",
        "thought": "Thought final_answer",
        "tools": "McpServer Tool Tools",
        "tools.tool": "tool",
    },
)
