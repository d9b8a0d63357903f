"""What each route does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs

import numpy as np

from pomona.errors import PomonaError
from pomona.markers import MarkedModel, Trained
from pomona.models import Spelled, Spent
from pomona.sample.context import Context, Feedback, Memory, Neighbours, Selected, Thought
from pomona.serve.call import FEEDBACK, MEMORY, Call, event, send_events
from pomona.serve.fields import Fields, bad, missing, mistyped
from pomona.serve.parsing import ParsedRequest, read_chat, read_completion
from pomona.serve.response_shape import ResponseShape
from pomona.serve.responses import read_response, renamed
from pomona.serve.served import ServedModel
from pomona.serve.shapes import Chunks, Shape, embeddings
from pomona.serve.work import Outcome, outcome, pieces
from pomona.web import ApiError, wrong

if TYPE_CHECKING:
    from pomona.memory import RowMemory

Result = TypeVar("Result")
_MOST_INPUTS = 2048
_LONGEST_GROUP = 64
# What requests may use of a memory of rows: the setting of `Neighbours`.
_NEAR = {"lookup": "lookup", "examples": "examples", "neighbours": "candidates"}
_MADE = ("phrases", "selector")  # and what has no setting
_MARKERS = "markers"  # among what holds for a user where a request says nothing
_MOST_MARKERS = 64
_MOST_SAID = 100_000  # characters of a text that is kept as feedback


async def chat(call: Call) -> None:
    """POST /v1/chat/completions."""
    parsed = read_chat(await call.json(), call.state.models)
    await _generate(call, parsed, Chunks(parsed))


async def completions(call: Call) -> None:
    """POST /v1/completions."""
    parsed = await _spelled(read_completion(await call.json(), call.state.models))
    await _generate(call, parsed, Chunks(parsed))


async def _spelled(parsed: ParsedRequest) -> ParsedRequest:
    """The request with the text of prompts that are token ids."""
    model = parsed.served.model
    requests = [
        replace(one, prompt=text, spelled=Spelled(text, one.prompt_ids))
        if one.prompt_ids and (text := await model.spell(one.prompt_ids))
        else one
        for one in parsed.requests
    ]
    return replace(parsed, requests=tuple(requests))


async def responses(call: Call) -> None:
    """POST /v1/responses."""
    call.told = renamed
    parsed, repeated = read_response(await call.json(), call.state.models)
    shape = ResponseShape(parsed, repeated)
    await _generate(call, parsed, shape, lambda error: event(shape.failed(error)))


async def embed(call: Call) -> None:
    """POST /v1/embeddings."""
    fields = Fields(await call.json())
    called = fields.need("model", str)
    served = call.state.models.find(called)
    call.model = served.name
    inputs = fields.prompts("input", _MOST_INPUTS, empty=False)
    encoding = fields.take("encoding_format", str, "float")
    if encoding not in {"float", "base64"}:
        raise bad("encoding_format", "must be float or base64")
    dimensions = fields.integer("dimensions", 1, 1 << 20)
    fields.take("user", str)
    if not served.lenient:
        fields.end()
    if "embed" not in served.model.abilities:
        raise ApiError(
            400, f'the model "{served.name}" cannot embed', param="model", code="unsupported_model"
        )
    call.enter(served.name)
    floats, spent = await call.while_here(_vectors(served, inputs))
    call.paid(served.name, spent)
    vectors = np.asarray(floats, "<f4")
    if dimensions is not None and dimensions != vectors.shape[1]:
        raise bad("dimensions", f"is {dimensions}; the model's vectors have {vectors.shape[1]}")
    as_text = encoding == "base64"
    body = await asyncio.to_thread(embeddings, called, vectors, spent.prompt_tokens, as_text)
    await call.reply(body)


async def _vectors(
    served: ServedModel, inputs: Sequence[str | tuple[int, ...]]
) -> tuple[Any, Spent]:
    """The vectors of texts; token ids are those of another server, or the text that they spell."""
    model: Any = served.model
    texts = [
        one if served.remote or isinstance(one, str) else await model.spell(one) for one in inputs
    ]
    return await model.vectors(texts)


async def models(call: Call) -> None:
    """GET /v1/models."""
    listed = {"object": "list", "data": call.state.models.list()}
    await call.reply({**listed, "feedback": call.state.feedback is not None})


async def model(call: Call) -> None:
    """GET /v1/models/NAME."""
    await call.reply(call.state.models.one(call.scope["path_params"]["name"]))


async def feedback(call: Call) -> None:
    """POST /v1/feedback keeps what a user says about an answer, DELETE forgets a user."""
    await (_forget if call.scope["method"] == "DELETE" else _keep)(call)


async def _keep(call: Call) -> None:
    memory = _memory(call)
    fields = Fields(await call.json())
    said: dict[str, Any] = {name: fields.need(name, str) for name in ("prompt", "chosen")}
    if not said["prompt"].strip():
        raise bad("prompt", "is empty")
    said |= {
        name: fields.take(name, str)
        for name in ("rejected", "edited", "complaint", "strategy", "user", "group")
    }
    said["good"] = fields.take("good", bool)
    markers = _chosen(fields, call.state.models.trained)
    for name, text in said.items():
        if isinstance(text, str) and len(text) > _MOST_SAID:
            raise bad(name, f"has {len(text):,} characters; at most {_MOST_SAID:,} are kept")
    said["user"] = call.user(said["user"])
    fields.end()
    call.enter(FEEDBACK)
    work = partial(_kept, memory, said, markers)
    number = await call.while_here(memory.run(work))
    await call.reply({"object": "feedback", "id": number})


def _chosen(fields: Fields, models: Sequence[Trained]) -> dict[str, Any]:
    """The markers that a user chose for the answer. ApiError for one that no model here knows."""
    given = fields.take(_MARKERS, dict, {})
    if len(given) > _MOST_MARKERS:
        raise bad(_MARKERS, f"has {len(given)} entries; at most {_MOST_MARKERS} are kept")
    for name, value in given.items():
        path = f"{_MARKERS}.{name[:80]}"
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise mistyped(path, "a string or a number")
        if isinstance(value, str) and len(value) > _MOST_SAID // 100:
            raise bad(
                path, f"has {len(value):,} characters; at most {_MOST_SAID // 100:,} are kept"
            )
        if not any(_fitting({name: value}, one) for one in models):
            raise wrong(path, _unknown(name, value, models))
    return given


def _unknown(name: str, value: Any, models: Sequence[Trained]) -> str:
    """Why none of the models knows a marker: what the first says that has it, else the first."""
    try:
        for one in sorted(models, key=lambda one: name not in one.taxonomy.markers):
            one.values({name: value})
    except PomonaError as error:
        return str(error)[:1000]
    return "no model here was trained with markers"


def _kept(memory: Feedback, said: Mapping[str, Any], markers: Mapping[str, Any]) -> int:
    """Keep what was said; the markers of an answer that a user calls good, or takes over another,
    are that user's from now on.
    """
    number, user = memory.add(**said), said["user"]
    if markers and user is not None and memory.rows(user=user, latest=1)[-1].good:
        memory.set_defaults(user, {_MARKERS: markers})
    return number


async def _forget(call: Call) -> None:
    """DELETE /v1/feedback?user=NAME: forget what a user said."""
    memory = _memory(call)
    users = parse_qs(call.scope["query_string"].decode("latin-1")).get("user", [])
    if len(users) != 1:
        raise missing("user", " — send ?user=NAME")
    call.enter(FEEDBACK)
    deleted = await call.while_here(memory.run(partial(memory.forget, call.user(users[0]))))
    await call.reply({"object": "feedback.deleted", "deleted": deleted})


async def remember(call: Call) -> None:
    """POST /v1/memory keeps a row: what was asked about, its answer and its group."""
    memory = _rows(call, growing=True)
    fields = Fields(await call.json())
    row: dict[str, str] = {name: fields.need(name, str) for name in ("source", "answer")}
    row["group"] = fields.take("group", str, "")
    fields.end()
    for name, text in row.items():
        if len(text) > (most := _LONGEST_GROUP if name == "group" else _MOST_SAID // 10):
            raise bad(name, f"has {len(text):,} characters; at most {most:,} are kept")
        if name != "group" and not text.strip():
            raise bad(name, "is empty")
    if memory.form.grouped and not row["group"]:
        raise missing("group")
    call.enter(MEMORY)
    number = await call.while_here(_in_file(memory, partial(memory.add, **row)))
    await call.reply({"object": "memory.row", "id": number})


async def forget_row(call: Call) -> None:
    """DELETE /v1/memory/ID."""
    memory = _rows(call, growing=True)
    given = str(call.scope["path_params"]["row"])
    number = int(given) if given.isascii() and given.isdigit() and len(given) < 19 else 0
    call.enter(MEMORY)
    if not await call.while_here(_in_file(memory, partial(memory.delete, number))):
        message = "there is no row of this number that this key has added"
        raise ApiError(404, message, param="row", code="no_row")
    await call.reply({"object": "memory.row.deleted", "id": number, "deleted": True})


async def _in_file(memory: RowMemory, work: Callable[[], Result]) -> Result:
    assert memory.kept is not None
    return await memory.kept.file.run(work)


def _rows(call: Call, *, growing: bool = False) -> RowMemory:
    """The memory as this key has it."""
    memory = call.state.settings.memory
    if memory is None or (growing and memory.kept is None):
        option = "--memory-file PATH" if growing else "--memory-table or --memory-file PATH"
        message = f"this server keeps no memory of rows — start it with {option}"
        raise ApiError(404, message, code="no_memory")
    return memory.of(call.tenant)


async def metrics(call: Call) -> None:
    """GET /metrics."""
    text = call.state.metrics.text(*call.state.gates.values())
    await call.reply(text.encode(), kind="text/plain; version=0.0.4; charset=utf-8")


async def health(call: Call) -> None:
    """GET /healthz."""
    await call.reply({"status": "ok", "models": len(call.state.models.names)})


def _memory(call: Call) -> Any:
    if call.state.feedback is None:
        raise ApiError(
            404, "this server keeps no feedback — start it with --feedback PATH", code="no_feedback"
        )
    return call.state.feedback


async def _generate(
    call: Call,
    parsed: ParsedRequest,
    shape: Shape,
    failed: Callable[[ApiError], bytes] | None = None,
) -> None:
    call.model = parsed.served.name
    call.enter(call.model)
    parsed = await _marked(call, parsed)
    levers = [_lever(call, parsed, name) for name in parsed.context]
    if parsed.stream:
        await send_events(call, _events(call, parsed, shape, levers), failed)
        return
    answers = await call.while_here(outcome(parsed, levers))
    call.paid(parsed.served.name, answers.spent)
    await call.reply(shape.whole(answers))


async def _marked(call: Call, parsed: ParsedRequest) -> ParsedRequest:
    """The request to a model that is asked with markers: with those of the request, or what this
    user chose before.
    """
    served, given = parsed.served, parsed.markers
    if served.trained is None:
        return parsed
    user = call.user(parsed.user)
    if given is None and user is not None and call.state.feedback is not None:
        work = partial(call.state.feedback.defaults, user)
        kept = (await call.while_here(call.state.feedback.run(work))).get(_MARKERS, {})
        given = _fitting(kept, served.trained)
    forced = parsed.markers_forced
    model = MarkedModel(served.model, served.trained, given or {}, forced=forced)
    return replace(parsed, served=replace(served, model=model))


def _fitting(kept: Mapping[str, Any], trained: Trained) -> dict[str, Any]:
    """What this model knows of the markers that a user chose, perhaps of another."""
    found: dict[str, Any] = {}
    for name, value in kept.items():
        try:
            trained.values({name: value})
        except PomonaError:
            continue
        found[name] = value
    return found


def _lever(call: Call, parsed: ParsedRequest, name: str) -> Context:
    known = call.state.settings.contexts
    if name in known:
        return known[name]
    if name == "thought":
        return Thought()
    if name == "memory":
        return Memory(_memory(call), user=call.user(parsed.user))
    if name in _NEAR:
        settings = call.state.settings
        return Neighbours(_rows(call), name=name, **{_NEAR[name]: getattr(settings, name)})
    if name == "phrases":
        return Neighbours(_rows(call), name=name, phrases=True)
    if name == "selector":
        return _selected(call)
    listed = ", ".join((*known, "thought", "memory", *_NEAR, *_MADE))
    raise wrong("pomona.context", f'there is no context "{name[:80]}" — known: {listed}')


def _selected(call: Call) -> Selected:
    memory = _rows(call)
    if memory.selector is None:
        message = "this server has no selector — start it with --memory-selector FILE"
        raise ApiError(404, message, code="no_selector")
    return Selected(memory, name="selector")


async def _events(
    call: Call, parsed: ParsedRequest, shape: Shape, levers: list[Context]
) -> AsyncGenerator[bytes, None]:
    source = pieces(parsed, levers)
    async with aclosing(source):
        async for item in source:
            if isinstance(item, Outcome):
                call.paid(parsed.served.name, item.spent)
            if events := b"".join(map(event, shape.of(item))):
                yield events
