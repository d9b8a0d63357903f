"""Levers on what the model sees: passages, steps of thought, tools, what users said before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.sample.context.feedback import (
        Arm as Arm,
        Feedback as Feedback,
        Memory as Memory,
        Said as Said,
        thompson as thompson,
    )
    from pomona.sample.context.index import Index as Index, Passage as Passage
    from pomona.sample.context.neighbours import (
        AnswerMemory as AnswerMemory,
        Neighbours as Neighbours,
    )
    from pomona.sample.context.opening import (
        build_datastore as build_datastore,
        open_contexts as open_contexts,
    )
    from pomona.sample.context.protocol import Chooser as Chooser, Context as Context
    from pomona.sample.context.retrieval import Retrieval as Retrieval
    from pomona.sample.context.selected import Selected as Selected
    from pomona.sample.context.steering import Steering as Steering
    from pomona.sample.context.thought import Thought as Thought, final_answer as final_answer
    from pomona.sample.context.tools.definition import Tool as Tool, tool as tool
    from pomona.sample.context.tools.loop import Tools as Tools
    from pomona.sample.context.tools.servers import McpServer as McpServer

__getattr__, __dir__ = lazily(
    __name__,
    {
        "feedback": "Arm Feedback Memory Said thompson",
        "index": "Index Passage",
        "neighbours": "AnswerMemory Neighbours",
        "opening": "build_datastore open_contexts",
        "protocol": "Chooser Context",
        "retrieval": "Retrieval",
        "selected": "Selected",
        "steering": "Datastore Steering",
        "thought": "Thought final_answer",
        "tools.definition": "Tool tool",
        "tools.loop": "Tools",
        "tools.servers": "McpServer",
    },
)
