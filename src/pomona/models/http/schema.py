"""The JSON of other servers, checked once: whole answers, chunks of streams, log-probabilities,
embeddings, and what they cost. Fields nobody reads may be anything; those that are read have their
types, or the answer is refused with the place and what stands there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pomona.models.request import ModelError

Section = TypeVar("Section", bound=BaseModel)
_MOST_TOKENS = 100_000_000  # no model reads or writes as many: who says more has not counted
_SHOWN = 60
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "missing": "there",
}


class _Section(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)


Place = Annotated[int, Field(ge=0, lt=1 << 31)]


class FunctionCall(_Section):
    """A function and its arguments, or a piece of them; some servers give arguments as an
    object.
    """

    name: str | None = None
    arguments: str | dict[str, Any] | None = None

    @property
    def written(self) -> str:
        """The arguments as JSON text."""
        given = self.arguments
        return json.dumps(given, ensure_ascii=False) if isinstance(given, dict) else given or ""


class ToolCall(_Section):
    """A call of a tool, or a piece of one. Kinds of calls that nobody here knows keep their
    fields.
    """

    model_config = ConfigDict(extra="allow")

    index: Place | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionCall | None = None


class Message(_Section):
    """What a model said, or a piece of it. `reasoning` is another name for `reasoning_content`,
    and in other servers something else.
    """

    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None

    @property
    def thought(self) -> str:
        """The model's reasoning."""
        other = self.reasoning if isinstance(self.reasoning, str) else ""
        return self.reasoning_content or other

    @property
    def calls(self) -> list[ToolCall]:
        """Its calls; the older `function_call` is one."""
        if self.tool_calls or self.function_call is None:
            return self.tool_calls or []
        return [ToolCall(index=0, type="function", function=self.function_call)]


class Alternative(_Section):
    """A token with its log-probability; `bytes` are what it spells."""

    token: str
    logprob: float | None = None
    bytes: list[Annotated[int, Field(ge=0, le=255)]] | None = None


class Scored(Alternative):
    """A token of the answer with its likeliest alternatives."""

    top_logprobs: list[Alternative] | None = None


class Logprobs(_Section):
    """The field `logprobs` of a choice: `content` in chats, the other three in completions."""

    content: list[Scored] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class RawChoice(_Section):
    """A choice of an answer (`message`, `text`), or a piece of one (`delta`, `text`)."""

    index: Place | None = None
    message: Message | None = None
    delta: Message | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None

    @property
    def said(self) -> Message:
        """What was said in it, whatever the field is called."""
        return self.message or self.delta or Message()


class Answer(_Section):
    """A whole answer, or an event of a streamed one."""

    choices: list[RawChoice] | None = None


class Vector(_Section):
    """One embedding."""

    index: Place
    embedding: Annotated[list[float], Field(min_length=1)]


class Vectors(_Section):
    """The answer to a request for embeddings."""

    data: list[Vector]


class Rank(_Section):
    """What a reranker gives one document."""

    index: Place
    relevance_score: float


class Ranks(_Section):
    """The answer of a reranker."""

    results: list[Rank]


class Scores(_Section):
    """The answer of a reward model."""

    scores: list[float]


def checked(value: Any, model: type[Section], where: str) -> Section:
    """The value as this section. A ModelError of status 502 names the first field that is not what
    it must be, and what it holds.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
    expected = _EXPECTED.get(first["type"])
    wanted = f"must be {expected}" if expected else first["msg"].replace("Input should", "must")
    raise malformed(f"{place.lstrip('.') or 'it'} {wanted}, not {_shown(first['input'])}", where)


def malformed(what: str, where: str) -> ModelError:
    """The error of an answer that is JSON, but not what a server of this API says."""
    return ModelError(
        f"its answer is malformed: {what}",
        status=502,
        where=where,
        remedy="check that the server speaks the OpenAI API",
    )


def usage_of(answer: Mapping[str, Any], *, embedding: bool = False) -> tuple[int, int] | None:
    """Prompt and answer tokens as the server counted them; None where it did not, or where no
    model can have used so few or so many. An `embedding` has no answer tokens.
    """
    usage = answer.get("usage")
    if not isinstance(usage, dict):
        return None
    prompt, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    written = 0 if embedding else written
    for count, least in ((prompt, 1), (written, 0)):
        if not isinstance(count, int) or isinstance(count, bool):
            return None
        if not least <= count <= _MOST_TOKENS:
            return None
    return prompt, written


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
