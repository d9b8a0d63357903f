"""The models that run in this process: the same promises for torch and llama.cpp."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pomona.errors import PomonaError
from pomona.models import load, wait_for
from pomona.models.flops import decode_flops, gguf_shape, prefill_flops
from pomona.models.locating import gguf_header, smollm2_path
from pomona.models.model import Model
from pomona.models.request import ModelError, Reply, ReplyPiece, Request
from pomona.models.torch.codec import tool_calls
from pomona.models.torch.native import cut, stable_prefix

SMOLLM2 = smollm2_path()  # before the tests' own cache hides it
needs_smollm2 = pytest.mark.skipif(not SMOLLM2.is_file(), reason="smollm2 is not on this machine")
BACKENDS = ["llama", pytest.param("gguf", marks=needs_smollm2)]
ASK = Request(messages=({"role": "user", "content": "save the draft"},), max_tokens=8, seed=5)
POOL = [(0, 0.0), (1, 0.9), (2, 0.9), (3, 0.9)]


@pytest.fixture
def uri(request: pytest.FixtureRequest, checkpoints: dict[str, Path]) -> str:
    return f"gguf:{SMOLLM2}" if request.param == "gguf" else str(checkpoints[request.param])


def use(uri: str, work: Callable[[Any], Coroutine[Any, Any, Any]], **settings: Any) -> Any:
    async def main() -> Any:
        model = load(uri, **settings)
        assert isinstance(model, Model)
        try:
            return await work(model)
        finally:
            await model.close()

    return asyncio.run(main())


@pytest.mark.parametrize("uri", BACKENDS, indirect=True)
def test_pools_streams_options_and_errors(uri: str) -> None:
    async def work(model: Any) -> None:
        pool = await model.reply(ASK, POOL)
        assert [(reply.index, reply.temperature) for reply in pool] == POOL
        assert len({reply.text for reply in pool}) >= 3
        assert [reply.spent.prompt_tokens > 0 for reply in pool] == [True, False, False, False]
        assert all(
            1 <= reply.spent.completion_tokens <= 8 and reply.spent.flops > 0 for reply in pool
        )
        *pieces, streamed = [piece async for piece in model.stream(ASK, POOL[:1])]
        assert "".join(piece.text for piece in pieces) == streamed.text == pool[0].text
        await _side_by_side(model)
        await _stops(model, pool[0].text)
        await _options(model)
        with pytest.raises(ModelError, match="shorten the messages") as failed:
            await model.reply(Request(prompt="save " * 9000), [(0, 0.0)])
        assert (failed.value.status, failed.value.code) == (400, "context_length_exceeded")
        with pytest.raises(ModelError, match="a part of type"):
            await model.reply(
                Request(messages=({"role": "user", "content": [{"type": "image_url"}]},)),
                [(0, 0.0)],
            )
        vectors, spent = await model.vectors(["save the draft", "delete"])
        assert (
            2
            <= spent.prompt_tokens
            <= model.cost(
                sum(map(model.tokens, (Request(prompt="save the draft"), Request(prompt="delete"))))
            ).prompt_tokens
        )
        assert spent.flops > 0
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)

    use(uri, work)


@pytest.mark.parametrize("uri", BACKENDS, indirect=True)
def test_answers_go_on_from_what_they_begin_with(uri: str) -> None:
    async def work(model: Any) -> None:
        (whole,) = await model.reply(replace(ASK, logprobs=0), POOL[:1])
        begun = b"".join(bytes(token["bytes"]) for token in whole.tokens[:3]).decode()
        request = replace(ASK, prefix=begun, max_tokens=5)
        (rest,) = await model.reply(request, POOL[:1])
        assert begun + rest.text == whole.text
        assert rest.spent.prompt_tokens == whole.spent.prompt_tokens + 3
        *pieces, streamed = [piece async for piece in model.stream(request, POOL[:1])]
        assert "".join(piece.text for piece in pieces) == streamed.text == rest.text
        pool = await model.reply(request, POOL)
        assert pool[0].text == rest.text and not pool[3].text.startswith(begun)
        (other,) = await model.reply(replace(request, prefix=f"{begun}x"), POOL[:1])
        assert other.text != rest.text

    use(uri, work)


async def _side_by_side(model: Any) -> None:
    """Samples that are streamed together come mixed, each with its own tokens."""
    items = [item async for item in model.stream(replace(ASK, logprobs=0), POOL)]
    replies = {item.index: item for item in items if isinstance(item, Reply)}
    assert sorted(replies) == [0, 1, 2, 3]
    for index, reply in replies.items():
        mine = [item for item in items if isinstance(item, ReplyPiece) and item.index == index]
        assert "".join(piece.text for piece in mine) == reply.text
        assert tuple(token for piece in mine for token in piece.tokens) == reply.tokens
        assert reply.logprob == pytest.approx(
            sum(token["logprob"] for token in reply.tokens), abs=1e-3
        )
    order = [item.index for item in items if isinstance(item, ReplyPiece) and item.index]
    assert order != sorted(order)


async def _stops(model: Any, text: str) -> None:
    """A stop string in the middle of the known greedy answer ends it there, and is not streamed."""
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    request = replace(ASK, stop=(stop,))
    reply = (await model.reply(request, [(0, 0.0)]))[0]
    assert reply.text == text[: text.index(stop)]
    assert reply.finish_reason == "stop"
    *pieces, streamed = [piece async for piece in model.stream(request, [(0, 0.0)])]
    assert "".join(piece.text for piece in pieces) == streamed.text == reply.text


async def _options(model: Any) -> None:
    options = ('the "page"\n', "der \\ Entwurf")
    replies = await model.reply(
        replace(ASK, options=options, max_tokens=40), [(0, 0.0), (1, 2.0), (2, 2.0)]
    )
    assert {reply.text for reply in replies} <= set(options)


@pytest.mark.parametrize("uri", BACKENDS, indirect=True)
def test_a_sample_depends_on_its_index_alone(uri: str) -> None:
    async def work(model: Any) -> None:
        together = await model.reply(ASK, POOL)
        alone = (await model.reply(ASK, [POOL[2]]))[0]
        assert alone.text[:8] == together[2].text[:8]
        if "gguf" in uri:  # llama.cpp rounds otherwise where it reads prompts side by side
            return
        several = await asyncio.gather(*(model.reply(ASK, [sample]) for sample in POOL))
        assert [replies[0].text[:8] for replies in several] == [
            reply.text[:8] for reply in together
        ]

    use(uri, work)


@pytest.mark.parametrize("uri", BACKENDS, indirect=True)
def test_what_nobody_waits_for_stops(uri: str) -> None:
    long = replace(ASK, max_tokens=100 if "gguf" not in uri else 3000, temperature=1.5)

    async def work(model: Any) -> None:
        await model.reply(ASK, [(0, 0.0)])
        task = asyncio.ensure_future(model.reply(long, [(0, 1.5)]))
        stream = model.stream(long, [(0, 1.5)])
        await anext(stream)
        await stream.aclose()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        started = time.monotonic()
        assert (await model.reply(ASK, [(0, 0.0)]))[0].text
        assert time.monotonic() - started < 30  # and not the minutes that the long answer takes

    use(uri, work)


def test_torch_answers_as_generate_does(checkpoints: dict[str, Path]) -> None:
    model = load(str(checkpoints["gpt2"]), device="cpu")
    expected = model.generate(
        ["save the draft"], n=4, max_new_tokens=8, temperature=[0, 0.9, 0.9, 0.9], seed=5
    )[0]
    replies = use(str(checkpoints["gpt2"]), lambda chat: chat.reply(ASK, POOL))
    assert [reply.text for reply in replies] == [sample.text for sample in expected]
    assert [reply.finish_reason for reply in replies] == [
        sample.finish_reason for sample in expected
    ]
    for reply, sample in zip(replies, expected, strict=True):
        assert reply.logprob == pytest.approx(float(sample.logprobs.sum()), abs=1e-3)


def test_torch_charges_what_the_ledger_charges(checkpoints: dict[str, Path]) -> None:
    shape = load(str(checkpoints["llama"]), device="cpu").shape
    first, second, *_ = use(
        str(checkpoints["llama"]), lambda chat: chat.reply(ASK, POOL), price=(2e6, 3e6)
    )
    read, wrote = first.spent.prompt_tokens, first.spent.completion_tokens
    assert first.spent.flops == prefill_flops(shape, read) + decode_flops(shape, read, wrote)
    assert second.spent.flops == decode_flops(shape, read, second.spent.completion_tokens)
    assert first.spent.money == 2 * read + 3 * wrote


def test_torch_batches_many_requests_and_each_keeps_its_limit(checkpoints: dict[str, Path]) -> None:
    requests = [
        replace(ASK, messages=({"role": "user", "content": f"save {at}"},), max_tokens=3 + at)
        for at in range(6)
    ]

    async def work(model: Any) -> tuple[list[list[Reply]], list[list[Reply]]]:
        together = await asyncio.gather(*(model.reply(request, [(0, 1.0)]) for request in requests))
        return together, [await model.reply(request, [(0, 1.0)]) for request in requests]

    together, alone = use(str(checkpoints["llama"]), work)
    assert [reply[0].text for reply in together] == [reply[0].text for reply in alone]
    assert all(
        reply[0].spent.completion_tokens <= request.max_tokens
        for reply, request in zip(together, requests, strict=True)
    )


def test_torch_scores_as_score_does(checkpoints: dict[str, Path]) -> None:
    expected = load(str(checkpoints["llama"]), device="cpu").score(
        ["save the draft"] * 2, ["of the user", ""]
    )
    found, spent = use(
        str(checkpoints["llama"]), lambda chat: chat.logprobs(ASK, ["of the user", ""])
    )
    assert spent.completion_tokens == len(expected[0]) and spent.flops > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_closed_model_says_so(checkpoints: dict[str, Path]) -> None:
    async def main() -> None:
        model = load(str(checkpoints["llama"]))
        await model.close()
        with pytest.raises(ModelError, match="is closed"):
            await model.reply(ASK, [(0, 0.0)])

    asyncio.run(main())


@needs_smollm2
def test_the_head_of_a_gguf_file_gives_its_shape() -> None:
    shape = gguf_shape(*gguf_header(SMOLLM2))
    assert shape is not None
    assert (shape.layers, shape.hidden, shape.attention, shape.vocabulary, shape.parameters) == (
        30,
        576,
        576,
        49152,
        134_515_008,
    )


def test_a_file_that_is_not_gguf_is_named(tmp_path: Path) -> None:
    file = tmp_path / "x.gguf"
    for content in (b"hello, I am a text", b"GGUF" + bytes([3, 0, 0, 0]) + bytes([9] * 40)):
        file.write_bytes(content)
        with pytest.raises(PomonaError, match=r"x\.gguf: is not a whole GGUF file"):
            load(f"gguf:{file}")
    with pytest.raises(PomonaError, match="threads is 0"):
        load("ui-xs", threads=0)


def test_stops_and_half_characters_are_held_back() -> None:
    assert cut("a END b", ("END", "b")) == ("a ", True)
    assert stable_prefix("a EN", ("END",)) == "a "
    assert stable_prefix("caf\ufffd", ()) == "caf"
    assert stable_prefix("abc", ("x",)) == "abc"


def test_a_text_that_ends_within_a_character_ends_before_it() -> None:
    model: Any = load("ui-xs")
    ids = model.codec.encode(["a 😀 é日"], special=False)[0]
    texts = [model.codec.text(np.array(ids[:size])) for size in range(len(ids) + 1)]
    assert all("a 😀 é日".startswith(text) for text in texts)
    assert "a " in texts[2:-4]  # within the four bytes
    broken = [*model.codec.encode(["😀"], special=False)[0][1:], ids[0]]
    assert model.codec.text(np.array(broken)) == "\ufffd" * 3 + "a"  # what is wrong within stays
    wait_for(model.close())


def test_tool_calls_are_read_out_of_an_answer() -> None:
    text, calls = tool_calls('Sure. <tool_call>{"name": "add", "arguments": {"a": 1}}</tool_call>')
    assert (text, calls[0]["function"]) == ("Sure.", {"name": "add", "arguments": '{"a": 1}'})
    assert tool_calls("<tool_call>{broken}</tool_call>") == ("<tool_call>{broken}</tool_call>", ())


@needs_smollm2
def test_a_gguf_file_is_a_model_for_programs_that_wait() -> None:
    model = load(f"gguf:{SMOLLM2}")
    assert "states" not in model.abilities
    pools = [model.generate(["save the draft"], max_new_tokens=4) for _ in range(2)]
    assert pools[0][0][0].text == pools[1][0][0].text != ""
    with pytest.raises(PomonaError, match="open the checkpoint as hf:PATH"):
        model.score(["save"], ["page"])
    wait_for(model.close())


@needs_smollm2
def test_stop_strings_take_no_more_than_they_are() -> None:
    prompt = "Repeat: 👩‍🚀😀\nAnswer: 👩‍🚀😀\nRepeat: 👩‍🚀😀\nAnswer:"
    ask = Request(prompt=prompt, max_tokens=14, logprobs=0)

    async def work(model: Any) -> None:
        (free,) = await model.reply(ask, [(0, 0.0)])
        assert "👩‍🚀😀" in free.text
        # Within an emoji; of several tokens; and what only begins one is told in the end.
        for stop in (
            "\u200d",
            "😀",
            "\u200d🚀😀",
            free.text[-3:] + "?",
            "\n" + free.text.partition("\n")[2] + "!",
        ):
            text = free.text.partition(stop)[0]
            for logprobs in (None, 0):
                request = replace(ask, stop=(stop,), logprobs=logprobs)
                *pieces, last = [item async for item in model.stream(request, [(0, 0.0)])]
                (whole,) = await model.reply(request, [(0, 0.0)])
                assert (whole.text, last.text) == (text, text)
                assert "".join(piece.text for piece in pieces) == text
                assert whole.finish_reason == last.finish_reason
            named = [[one["token"] for one in reply.tokens] for reply in (whole, last, free)]
            assert named[0] == named[1] == named[2][: len(named[0])] != []
            assert whole.logprob is not None

    use(f"gguf:{SMOLLM2}", work)


def test_no_chat_template_touches_a_plain_prompt(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(checkpoints["llama"], tmp_path / "chat")
    template = "{% for message in messages %}<{{ message['content'] }}>{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    plain = Request(prompt="save the draft", max_tokens=8)

    async def answered(model: Model) -> list[Any]:
        reply = (await model.reply(plain, [(0, 0.0)]))[0]
        vectors, spent = await model.vectors(["save the draft"])
        return [reply.text, reply.spent.prompt_tokens, vectors.tolist(), spent.prompt_tokens]

    assert use(str(folder), answered, chat=True) == use(str(folder), answered)
