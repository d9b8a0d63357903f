"""The objects of POST /v1/responses: an answer as items, whole or as events."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pomona.models import ReplyPiece, Spent, Token
from pomona.serve.parsing import ParsedRequest
from pomona.serve.work import Drawn, Outcome, ResponseChoice
from pomona.web import ApiError


class ResponseShape:
    """The objects of one response, whole or as events; `repeated` is what of its request they
    repeat.
    """

    def __init__(self, parsed: ParsedRequest, repeated: Mapping[str, Any]) -> None:
        self._parsed, self._repeated = parsed, repeated
        self._id, self._created = "resp_" + secrets.token_hex(24), int(time.time())
        self._count = 0
        self._items: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None

    def whole(self, outcome: Outcome) -> dict[str, Any]:
        """The finished response."""
        return self._response(_items(outcome.choices[0], self._parsed.logprobs), outcome)

    def of(self, item: ReplyPiece | Drawn | Outcome) -> list[dict[str, Any]]:
        """The events for what came; `response.created` is before the first."""
        events: list[dict[str, Any]] = []
        if not self._count:
            events += [self._event("response.created", response=self._response([]))]
            events += [self._event("response.in_progress", response=self._response([]))]
        if isinstance(item, ReplyPiece):
            return events + self._piece(item)
        return events + (self._end(item) if isinstance(item, Outcome) else [])

    def failed(self, error: ApiError) -> dict[str, Any]:
        """The event of an error in the midst of the answer."""
        told = error.body["error"]
        shown = {name: told.get(name) for name in ("code", "message", "param")}
        return self._event("error", **shown, error=told)

    def _piece(self, piece: ReplyPiece) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        if piece.reasoning:
            events += self._begin("reasoning")
            events += [self._delta("response.reasoning_text.delta", piece.reasoning)]
        if piece.text or not piece.reasoning:
            tokens = list(piece.tokens) if self._parsed.logprobs else []
            events += self._begin("message")
            events += [self._delta("response.output_text.delta", piece.text, logprobs=tokens)]
        return events

    def _delta(self, kind: str, text: str, **more: Any) -> dict[str, Any]:
        assert self._open is not None
        self._open["content"][0]["text"] += text
        for token in more.get("logprobs", ()):
            self._open["content"][0]["logprobs"].append(token)
        return self._event(kind, **self._place(), content_index=0, delta=text, **more)

    def _place(self) -> dict[str, Any]:
        assert self._open is not None
        return {"item_id": self._open["id"], "output_index": len(self._items)}

    def _begin(self, kind: str) -> list[dict[str, Any]]:
        """Open an item that text goes into, unless it is open."""
        if self._open is not None and self._open["type"] == kind:
            return []
        events = self._finish()
        item = _message("") if kind == "message" else _reasoning("")
        self._open = {**item, "status": "in_progress"}
        bare = {**self._open, "content": []}
        events += [
            self._event("response.output_item.added", output_index=len(self._items), item=bare),
            self._event(
                "response.content_part.added",
                **self._place(),
                content_index=0,
                part={**self._open["content"][0]},
            ),
        ]
        return events

    def _finish(self) -> list[dict[str, Any]]:
        """Close the item that text went into."""
        if self._open is None:
            return []
        part, place = self._open["content"][0], self._place()
        kind = part["type"]
        logs = {"logprobs": part["logprobs"]} if kind == "output_text" else {}
        self._open["status"], place["content_index"] = "completed", 0
        return [
            self._event(f"response.{kind}.done", **place, text=part["text"], **logs),
            self._event("response.content_part.done", **place, part=part),
            self._done(self._open),
        ]

    def _done(self, item: dict[str, Any]) -> dict[str, Any]:
        event = self._event("response.output_item.done", output_index=len(self._items), item=item)
        self._items.append(item)
        self._open = None
        return event

    def _end(self, outcome: Outcome) -> list[dict[str, Any]]:
        events = self._finish()
        kinds = {item["type"] for item in self._items}
        for item in _items(outcome.choices[0], self._parsed.logprobs):
            if item["type"] in kinds and item["type"] != "function_call":
                continue
            bare = {**item, **({"arguments": ""} if "arguments" in item else {"content": []})}
            place = {"output_index": len(self._items), "item_id": item["id"]}
            events += [
                self._event(
                    "response.output_item.added",
                    output_index=len(self._items),
                    item={**bare, "status": "in_progress"},
                )
            ]
            if "arguments" in item:
                whole = item["arguments"]
                kind = "response.function_call_arguments"
                events += [
                    self._event(f"{kind}.delta", **place, delta=whole),
                    self._event(f"{kind}.done", **place, name=item["name"], arguments=whole),
                ]
            events.append(self._done(item))
        response = self._response(self._items, outcome)
        return [*events, self._event(f"response.{response['status']}", response=response)]

    def _event(self, kind: str, **parts: Any) -> dict[str, Any]:
        self._count += 1
        return {"type": kind, "sequence_number": self._count - 1, **parts}

    def _response(
        self, items: Sequence[dict[str, Any]], outcome: Outcome | None = None
    ) -> dict[str, Any]:
        status, cut = "in_progress", None
        if outcome is not None:
            finish = outcome.choices[0].finish
            cut = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish)
            status = "completed" if cut is None else "incomplete"
        if cut is not None and items:
            items = [*items[:-1], {**items[-1], "status": "incomplete"}]
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": None if cut is None else {"reason": cut},
            "model": self._parsed.called,
            "output": list(items),
            "previous_response_id": None,
            "store": False,
            "truncation": "disabled",
            "background": False,
            **self._repeated,
            "usage": None if outcome is None else _usage(outcome.spent),
            **({} if outcome is None else {"pomona": outcome.pomona}),
        }


def _items(choice: ResponseChoice, logprobs: bool) -> list[dict[str, Any]]:
    """What was thought, said and called."""
    items = [_reasoning(choice.reasoning)] if choice.reasoning else []
    if choice.text or choice.refusal is not None or not choice.calls:
        items.append(_message(choice.text, choice.tokens if logprobs else (), choice.refusal))
    for call in choice.calls:
        function = call.get("function") or {}
        items.append(
            {
                "type": "function_call",
                "id": "fc_" + secrets.token_hex(24),
                "call_id": call.get("id") or "call_" + secrets.token_hex(12),
                "name": function.get("name", ""),
                "arguments": function.get("arguments", ""),
                "status": "completed",
            }
        )
    return items


def _message(text: str, tokens: Sequence[Token] = (), refusal: str | None = None) -> dict[str, Any]:
    said = {"type": "output_text", "text": text, "annotations": [], "logprobs": list(tokens)}
    content: list[dict[str, Any]] = [said] if text or refusal is None else []
    if refusal is not None:
        content.append({"type": "refusal", "refusal": refusal})
    head = {"type": "message", "id": "msg_" + secrets.token_hex(24), "role": "assistant"}
    return {**head, "status": "completed", "content": content}


def _reasoning(text: str) -> dict[str, Any]:
    content = [{"type": "reasoning_text", "text": text}]
    head = {"type": "reasoning", "id": "rs_" + secrets.token_hex(24), "summary": []}
    return {**head, "content": content, "status": "completed"}


def _usage(spent: Spent) -> dict[str, Any]:
    """All tokens, those of samples not chosen and of judges included."""
    return {
        "input_tokens": spent.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": spent.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": spent.prompt_tokens + spent.completion_tokens,
    }
