"""Messages as the token ids a checkpoint was trained to read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from jinja2 import TemplateError

from pomona.models._codec import Codec
from pomona.models.chat._text import content_of, last_user
from pomona.models.chat.errors import wrong_request
from pomona.models.chat.protocol import Request

_CALL = re.compile(r"<tool_call>\s*(\{.*?\})\s*</tool_call>", re.DOTALL)


class Template:
    """The chat template of a tokenizer; without one the last user message is the prompt. `tools`
    says whether the template knows tools.
    """

    def __init__(self, codec: Codec) -> None:
        self.codec = codec
        template: Any = codec.tokenizer.chat_template
        self.chat = bool(template)
        self.tools = "tools" in str(template or "") and "<tool_call>" in str(template or "")

    def encode(self, request: Request) -> tuple[str, list[int]]:
        """The prompt as text and as token ids, never empty."""
        if request.prompt is not None:
            return request.prompt, self._plain(request.prompt)
        if request.tools and not self.tools:
            raise wrong_request(
                "the model's chat template knows no tools",
                remedy="leave tools out, or use another model",
            )
        if not self.chat:
            text = last_user(request.messages)
            return text, self._plain(text)
        text = self._rendered(request)
        return text, self.codec._encode([text], special=False)[0]

    def _plain(self, text: str) -> list[int]:
        if not text and self.codec.tokenizer.bos_token_id is None:
            raise wrong_request("the prompt is empty, and the model needs at least one token")
        return self.codec.prompts([text])[0]

    def _rendered(self, request: Request) -> str:
        messages = [{**message, "content": content_of(message)} for message in request.messages]
        tools = [dict(tool) for tool in request.tools] or None
        try:
            return self.codec.tokenizer.apply_chat_template(
                messages, tools=tools, tokenize=False, add_generation_prompt=True
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise wrong_request(
                f"the model's chat template refuses the messages: {error}",
                remedy="check roles and their order",
            ) from error


def tool_calls(text: str) -> tuple[str, tuple[Mapping[str, Any], ...]]:
    """The text without its `<tool_call>{"name": …, "arguments": …}</tool_call>` blocks, and the
    calls as the OpenAI API has them.
    """
    calls: list[Mapping[str, Any]] = []
    for block in _CALL.findall(text):
        try:
            call = json.loads(block)
            function = {
                "name": str(call["name"]),
                "arguments": json.dumps(call.get("arguments", {}), ensure_ascii=False),
            }
        except (ValueError, KeyError, TypeError):
            return text, ()
        calls.append({"id": f"call_{len(calls)}", "type": "function", "function": function})
    return (_CALL.sub("", text).strip(), tuple(calls)) if calls else (text, ())
