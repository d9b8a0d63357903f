"""From rows of a table to requests, and from answers to cells."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from pomona.answers.pool import Answer
from pomona.documents import parse_json
from pomona.errors import PomonaError
from pomona.models import (
    Model,
    ModelError,
    Request,
    Sampling,
    check_sampling,
    sampling_of,
)
from pomona.records import messages_of
from pomona.tasks import Metric, extractor, fields_of, metric as metric_of

COLUMNS = pa.schema(
    [
        ("answer", pa.string()),
        ("chosen", pa.int64()),
        ("candidates", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float64())),
        ("stopped_by", pa.string()),
        ("tokens", pa.int64()),
        ("flops", pa.float64()),
        ("money", pa.float64()),
        ("error", pa.string()),
        ("answer_extracted", pa.string()),  # what an extractor finds in the answer
        ("answer_tool_calls", pa.string()),  # as JSON
        ("answer_notes", pa.string()),  # of the selection, the pool and each context, as JSON
    ]
)
_METRIC = """write {"name": "exact_match", "extract": "number"}"""
FAILED = "error: "  # before the text of a failure, where others are names of limits


@dataclass(frozen=True)
class RowPrompt:
    """How a row becomes a request: from the template `prompt` with {column} in it, or from the
    column `messages`.

    A column of messages holds lists of role and content, or such a list as JSON text. `system` is a
    message put before. `raw` sends the filled template as it is, without a chat template.
    `sampling` says how answers are drawn.
    """

    prompt: str | None = None
    messages: str | None = None
    system: str | None = None
    raw: bool = False
    max_tokens: int = 512
    seed: int = 0
    sampling: Sampling = field(default_factory=Sampling)

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            remedy = "ask for at least one token"
            raise PomonaError(f"max_tokens is {self.max_tokens}", remedy=remedy)
        check_sampling(self.sampling)
        if (self.prompt is None) == (self.messages is None):
            message = "a prompt template and a column of messages exclude each other"
            raise PomonaError(message, where="prompt", remedy="give one of them")
        if self.raw and (self.system is not None or self.prompt is None):
            remedy = "give a prompt template and no system message"
            raise PomonaError("raw sends the prompt alone", where="raw", remedy=remedy)

    @property
    def parameters(self) -> dict[str, Any]:
        """What it makes of a row depends on, as a card says it."""
        own = {name: value for name, value in vars(self).items() if name != "sampling"}
        drawn = sampling_of(self.sampling)
        # A signature has one line, and a line's end may be what stops an answer.
        drawn |= {"stop": json.dumps(drawn["stop"], ensure_ascii=False)} if "stop" in drawn else {}
        return {**own, "raw": self.raw or None, **drawn}

    @property
    def columns(self) -> list[str]:
        """The columns it is made of. Raises PomonaError when there is none."""
        if self.messages is not None:
            return [self.messages]
        names = sorted(fields_of(self.prompt or ""))
        if not names:
            message = f'the prompt template "{self.prompt}" names no column'
            raise PomonaError(message, where="prompt", remedy="write {COLUMN} in it")
        return names

    def request(self, row: Mapping[str, Any], where: object) -> Request:
        """The request of one row. Raises PomonaError for a null, and for messages that are none."""
        common: dict[str, Any] = {"max_tokens": self.max_tokens, "seed": self.seed}
        common |= sampling_of(self.sampling)
        if self.messages is not None:
            messages = _messages(row[self.messages], f'{where}, column "{self.messages}"')
        else:
            template = self.prompt or ""
            for name in fields_of(template):
                filled(row, name, where)
            text = template.format_map(row)
            if self.raw:
                return Request(prompt=text, **common)
            messages = [{"role": "user", "content": text}]
        head = [] if self.system is None else [{"role": "system", "content": self.system}]
        return Request(messages=(*head, *messages), **common)


async def check_tokens(sampling: Sampling, models: Sequence[Model]) -> None:
    """Raise PomonaError for a biased token that one of the models has not, where that is known."""
    for model in models if sampling.logit_bias else ():
        try:
            await model.spell(list(sampling.logit_bias))
        except ModelError as error:
            raise PomonaError(error.message, where="logit_bias", remedy=error.remedy) from error


def filled(row: Mapping[str, Any], column: str, where: object) -> None:
    """Raise PomonaError for a null."""
    if row[column] is None:
        remedy = "fill it in, or leave the row out"
        raise PomonaError("is null", where=f'{where}, column "{column}"', remedy=remedy)


def columns_of(answerer: object) -> pa.Schema:
    """COLUMNS, and one of JSON for each of the notes that the answerer has written (`noted`)."""
    noted = [(name, pa.string()) for name in getattr(answerer, "noted", ())]
    return pa.schema([*COLUMNS, *noted])


def cells(
    result: Answer | str,
    columns: pa.Schema = COLUMNS,
    extract: Callable[[str], str | None] | None = None,
) -> dict[str, Any]:
    """The cells of the columns for an answer, for the name of a limit that was met before it, or
    for a failure. `extract` finds what of an answer is compared.
    """
    if isinstance(result, str):
        failed = result.startswith(FAILED)
        return {"error": result.removeprefix(FAILED)} if failed else {"stopped_by": result}
    spent = result.spent
    if not result.reply.answered:
        costs = {"tokens": spent.prompt_tokens + spent.completion_tokens, "flops": spent.flops}
        return {"error": refused(result), "money": spent.money, **costs}
    own = columns.names[len(COLUMNS) :]
    notes = {name: note for name, note in result.notes.items() if name not in own}
    calls = result.reply.tool_calls
    return {
        "answer": result.text,
        "chosen": result.chosen,
        "candidates": [reply.text for reply in result.candidates],
        "scores": list(result.scores),
        "stopped_by": result.stopped_by,
        "tokens": spent.prompt_tokens + spent.completion_tokens,
        "flops": spent.flops,
        "money": spent.money,
        "answer_extracted": None if extract is None else extract(result.text),
        "answer_tool_calls": _json(calls) if calls else None,
        "answer_notes": _json(notes),
        **{name: _json(result.notes.get(name)) for name in own},
    }


def compared(
    given: str | Mapping[str, Any], answerer: object
) -> tuple[Metric, Callable[[str], str | None] | None]:
    """The metric, and what finds that of an answer which is compared, None for all of it. Options
    may be an object of JSON, as on the command line.
    """
    if isinstance(given, str) and given.lstrip().startswith("{"):
        given = parse_json(given.encode(), "--metric", remedy=_METRIC)
    how = getattr(answerer, "extract", None)
    if given == "exact_match" and how:
        given = {"name": "exact_match", "extract": how}
    metric = metric_of(given, reads="text")
    how = getattr(metric, "extract", None) or how
    match: Any = getattr(metric, "match", "last")
    return metric, None if how is None else extractor(how, match)


def _json(note: Any) -> str:
    return json.dumps(note, ensure_ascii=False, default=str)


def refused(answer: Answer) -> str:
    """Why an answer is none."""
    said = answer.reply.refusal
    return f"the model refused: {said[:200]}" if said else "a content filter took the answer away"


def _messages(value: Any, where: str) -> list[dict[str, Any]]:
    remedy = "write a list of {role, content}"
    if isinstance(value, str):
        try:
            value = parse_json(value.encode(), where, top=None)
        except (PomonaError, UnicodeEncodeError) as error:
            reason = error.message if isinstance(error, PomonaError) else "half a character"
            raise PomonaError(f"is no JSON: {reason}", where=where, remedy=remedy) from error
    value = messages_of(value)
    items = value if isinstance(value, list) else []
    if not items or not all(isinstance(item, dict) and item.get("role") for item in items):
        raise PomonaError("holds no messages", where=where, remedy=remedy)
    return [{name: part for name, part in item.items() if part is not None} for item in items]
