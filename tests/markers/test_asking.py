"""Models asked with markers: where lists stand, and that none comes back, whole or in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from pomona.answers import CachedModel
from pomona.errors import PomonaError
from pomona.markers import (
    MarkedModel,
    MarkedReply,
    MarkersContext,
    Taxonomy,
    Trained,
    list_of,
    open_markers,
    write_trained,
)
from pomona.models import Model, Reply, ReplyPiece, Request, Spent
from pomona.models.http import HttpModel
from pomona.models.http.choices import body_of
from pomona.sample import answer, forecast_answer, parse_strategy

OWN = Taxonomy.model_validate(
    {
        "markers": {
            "length": {"kind": "values", "values": ["short", "long"]},
            "quality": {"kind": "float"},
            "lang": {"kind": "text"},
        }
    }
)
FORMS: Any = ("verbose", "compact", "compact1")
TRAINED = {form: Trained(OWN, form, {"quality": {"": 0.5, "de": 0.75}}, "lang") for form in FORMS}
SAVE = Request(prompt="Save")


class Speaking(Model):
    """A model that says a text in pieces, each of them a token, and remembers what it was asked."""

    name, identity, abilities = "speaking", "speaking:1", frozenset()

    def __init__(self, pieces: Sequence[str], finish: Any = "stop") -> None:
        self.pieces, self.finish, self.seen = pieces, finish, []

    async def reply(self, request: Request, samples: Any) -> list[Reply]:
        self.seen.append(request)
        tokens = tuple(
            {"token": one, "bytes": list(one.encode()), "logprob": -1.0, "top_logprobs": [1]}
            for one in self.pieces
        )
        return [
            Reply("".join(self.pieces), self.finish, Spent(3, len(tokens)), "x", index, heat, -1.0, (),
                  tokens)
            for index, heat in samples
        ]  # fmt: skip

    async def stream(
        self, request: Request, samples: Any
    ) -> AsyncGenerator[ReplyPiece | Reply, None]:
        replies = await self.reply(request, samples)
        for token in replies[0].tokens:
            for reply in replies:
                yield ReplyPiece(token["token"], reply.index, (token,), "so" * (token is None))
        for reply in replies:
            yield reply


def marked(form: Any, pieces: Sequence[str], finish: str = "stop", **values: Any) -> MarkedModel:
    return MarkedModel(Speaking(pieces, finish), TRAINED[form], values)


async def whole(model: Model, request: Request, n: int = 1) -> list[MarkedReply]:
    found = await model.reply(request, [(at, 1.0) for at in range(n)])
    return [one for one in found if isinstance(one, MarkedReply)]


async def in_pieces(model: Model, request: Request) -> tuple[str, bytes, MarkedReply]:
    """The text that came, what its tokens spell, and the reply of one sample of two."""
    came = [one async for one in model.stream(request, [(0, 1.0), (1, 1.0)])]
    texts = [one for one in came if isinstance(one, ReplyPiece) and one.index == 1]
    spelled = b"".join(bytes(token["bytes"]) for one in texts for token in one.tokens)
    (reply,) = [one for one in came if isinstance(one, MarkedReply) and one.index == 1]
    return "".join(one.text for one in texts), spelled, reply


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "length": st.sampled_from(["short", "long"]),
        "quality": st.floats(-1e9, 1e9),
        "lang": st.sampled_from(["de", "zh_Hant", "a;b|c~%", "ß"]),
    },
)
TEXTS = st.one_of(
    st.text(max_size=20),
    st.lists(
        st.sampled_from(["<MARKER_LIST>", "</MARKER_LIST>", "|", "0", "a", "x", "de", ";", "_", " ", "1.5", "é",
                         "<lang>", "\n", "~", "%7", "x"]), max_size=9).map("".join),
)  # fmt: skip


@st.composite
def answers(draw: Any) -> tuple[Any, dict[str, Any] | None, str, list[str], str]:
    """A form, the values of the list that an answer begins with or None, the text behind it, and
    all of it in pieces; and why it ended.
    """
    form, text = draw(st.sampled_from(FORMS)), draw(TEXTS)
    values = draw(st.one_of(st.none(), VALUES))
    said = text
    if values is not None:
        said = list_of(values, OWN, form) + (" " if form == "verbose" else "|") + text
    cuts = sorted(draw(st.sets(st.integers(0, len(said)), max_size=6)))
    places = [0, *cuts, len(said)]
    pieces = [said[one:two] for one, two in pairwise(places) if one < two]
    return form, values, text, pieces, draw(st.sampled_from(["stop", "length"]))


@settings(max_examples=60)
@given(answers())
def test_what_comes_in_pieces_is_what_comes_as_a_whole(told: Any) -> None:
    form, values, text, pieces, finish = told
    model = marked(form, pieces, finish)
    (reply,) = asyncio.run(whole(model, SAVE))
    streamed, spelled, last = asyncio.run(in_pieces(model, SAVE))
    assert (streamed, last.text, last.markers, last.cut) == (
        reply.text, reply.text, reply.markers, reply.cut,
    )  # fmt: skip
    assert spelled == reply.text.encode() == b"".join(bytes(one["bytes"]) for one in reply.tokens)
    if values is not None:
        assert (reply.markers, reply.text, reply.cut) == (values, text, None)
    elif reply.markers is None:  # nothing is lost
        assert (reply.text or reply.cut or "") == text
    assert reply.cut is None or finish == "length"


def test_a_token_that_holds_the_end_of_a_list_keeps_its_text() -> None:
    (reply,) = asyncio.run(whole(marked("compact", ["b", " x x|Sp", "eichern"]), SAVE))
    assert (reply.text, reply.markers) == ("Speichern", {"length": "long"})
    assert [(one["token"], one["top_logprobs"]) for one in reply.tokens] == [
        ("Sp", []), ("eichern", [1]),
    ]  # fmt: skip
    (reply,) = asyncio.run(whole(marked("compact", ["b 2"], "length"), SAVE))
    assert (reply.text, reply.tokens, reply.notes) == ("", (), {"inferred": None, "cut": "b 2"})
    stopped = Request(prompt="Save", stop=("|",))
    (reply,) = asyncio.run(whole(marked("compact", ["b 1 de"]), stopped))
    assert (reply.text, reply.cut) == ("", "b 1 de")


def test_an_answer_without_a_list_comes_at_once() -> None:
    async def first(pieces: Sequence[str]) -> str:
        stream = marked("compact", pieces).stream(SAVE, [(0, 1.0)])
        return await anext(one.text async for one in stream)

    assert asyncio.run(first(["Hal", "lo"])) == "Hal"
    assert asyncio.run(first(["b ", "c", "y"])) == "b c"  # c begins no number
    assert asyncio.run(first(["b", " 0.5", " de", "|", "Hallo"])) == "Hallo"


def asked(model: MarkedModel, request: Request) -> Request:
    asyncio.run(whole(model, request))
    inner: Any = model.model
    return inner.seen[-1]


def test_a_list_stands_behind_the_prompt_or_the_last_message_of_the_user() -> None:
    model = marked("compact", ["Hallo"], lang="de", quality="auto")
    assert model.given == {"quality": 0.75, "lang": "de"}
    assert asked(model, SAVE).prompt == "Save~| x 0.75 de"
    assert asked(model, Request(prompt="a~|0;;fr")).prompt == r"a~\|0;;fr~| x 0.75 de"
    held = asked(model, Request(prompt="a~|1", options=("a", "b")))
    assert held.prompt == r"a~\|1"  # answers that are held to options begin with no list
    picture = {"type": "image_url", "image_url": {"url": "x"}}
    parts = [{"type": "text", "text": "a~"}, picture, {"type": "text", "text": "|0"}]
    user = {"role": "user", "name": "me"}
    seen = asked(
        model,
        Request(
            (
                {"role": "system", "content": "s~|1"},
                {**user, "content": "first~|1"},
                {"role": "assistant", "content": None, "tool_calls": [{}]},
                {**user, "content": parts},
                {"role": "tool", "content": "t~|1"},
            )
        ),
    ).messages
    assert [one["content"] for one in seen] == [
        r"s~\|1", r"first~\|1", None,
        [parts[0], picture, {"type": "text", "text": r"\|0~| x 0.75 de"}], r"t~\|1",
    ]  # fmt: skip
    assert seen[3]["name"] == "me"
    told = marked("verbose", ["Hallo"])
    assert asked(told, Request(({**user, "content": [picture]},))).messages[0]["content"] == [
        picture
    ]
    with pytest.raises(PomonaError, match="markers stand behind a user's message"):
        asked(model, Request(({"role": "system", "content": "Hi"},)))


class Beginning(Speaking):
    """A model that begins its answers with a list by itself, or goes on with one that is begun."""

    abilities = frozenset({"prefix"})  # pyright: ignore[reportAssignmentType]

    def __init__(self, said: str, finish: Any = "stop") -> None:
        super().__init__([said], finish)

    async def reply(self, request: Request, samples: Any) -> list[Reply]:
        said, self.pieces = self.pieces, ["Hallo"] if request.prefix else self.pieces
        found = await super().reply(request, samples)
        self.pieces = said
        return found


CHAT = Request(({"role": "user", "content": "Save"},))


@pytest.mark.parametrize("request_", [SAVE, CHAT])
@pytest.mark.parametrize(
    ("form", "said", "finish", "prefix", "inferred"),
    [
        ("compact", "a 2.5 fr", "stop", " a 2.5 de|", {"length": "short", "quality": 2.5}),
        ("verbose", "<MARKER_LIST> <length> long </length> ", "stop",
         "<MARKER_LIST> <length> long </length> <lang> de </lang> </MARKER_LIST> ",
         {"length": "long"}),
        ("compact", "a 2.5", "length", " x x de|", None),  # half a list
        ("compact", "Hallo", "stop", " x x de|", None),
    ],
)  # fmt: skip
def test_a_forced_list_begins_the_answer(
    request_: Request, form: Any, said: str, finish: str, prefix: str, inferred: Any
) -> None:
    model = MarkedModel(Beginning(said, finish), TRAINED[form], {"lang": "de"}, forced=True)
    first, second = asyncio.run(whole(model, request_, 2))
    inner: Any = model.model
    asked_first, asked_then = inner.seen
    assert asked_first.stop == (("|",) if form == "compact" else ("</MARKER_LIST>",))
    assert (asked_first.prefix, asked_then.prefix) == ("", prefix)
    assert asked_then == replace(asked_first, stop=(), prefix=prefix)  # the same, so far read once
    assert (first.text, first.markers, second.markers) == ("Hallo", inferred, inferred)
    assert (first.spent.prompt_tokens, second.spent.prompt_tokens) == (6, 3)  # of both, of one
    streamed, _, last = asyncio.run(in_pieces(model, request_))
    assert (streamed, last.markers) == ("Hallo", inferred)
    assert model.told == {"given": {"lang": "de"}, "forced": True}
    together = asyncio.run(model.together([(request_, [(0, 0.0)])]))
    assert [one.text for one in together[0]] == ["Hallo"]  # pyright: ignore


def test_a_list_is_inferred_and_paid_once_for_all_calls_with_one_request() -> None:
    model = MarkedModel(Beginning("b x x"), TRAINED["compact"], {"lang": "de"}, forced=True)
    inner: Any = model.model

    async def rounds() -> list[Reply]:
        # As strategies that stop early ask, and budgets of seconds: some at once, some later.
        pools = await asyncio.gather(*(model.reply(SAVE, [(at, 0.8)]) for at in range(3)))
        return [*(reply for pool in pools for reply in pool), *await model.reply(SAVE, [(3, 0.8)])]

    replies = asyncio.run(rounds())
    assert sorted(reply.spent.prompt_tokens for reply in replies) == [3, 3, 3, 6]
    assert len(inner.seen) == 5 and sum(one.prefix == "" for one in inner.seen) == 1
    assert replies[0].markers == {"length": "long"}  # pyright: ignore
    asyncio.run(model.reply(replace(SAVE, seed=9), [(0, 0.8)]))
    assert sum(one.prefix == "" for one in inner.seen) == 2  # another request, another list


def test_nothing_is_asked_before_where_everything_is_given() -> None:
    given: Any = {"length": "long", "quality": "auto", "lang": "de"}
    model = MarkedModel(Beginning("x"), TRAINED["compact"], given, forced=True)
    (reply,) = asyncio.run(whole(model, SAVE))
    inner: Any = model.model
    assert [one.prefix for one in inner.seen] == [" b 0.75 de|"]
    assert (reply.markers, reply.spent.prompt_tokens) == ({}, 3)
    plain = MarkedModel(Beginning("b x x|Hi"), TRAINED["compact"], {}, forced=True)
    assert plain.told == {"given": {}} and not asked(plain, SAVE).prefix  # nothing to force
    held = asked(model, replace(SAVE, options=("a", "b")))
    assert not held.prefix


def test_a_model_that_cannot_go_on_with_an_answer_is_told() -> None:
    forced = MarkersContext(TRAINED["compact"], {"lang": "de"}, forced=True)
    behind = forced.around(HttpModel("http://127.0.0.1:9/v1#far"))
    with pytest.raises(PomonaError) as caught:
        asyncio.run(behind.reply(CHAT, [(0, 0.0)]))
    assert str(caught.value) == (
        "far: cannot go on with an answer that is begun, and so no list can be forced — use a torch "
        "model (hf:PATH) or llama.cpp (gguf:PATH), or give the prompt as it is (--raw, "
        "/v1/completions)"
    )
    with pytest.raises(PomonaError, match="cannot go on with an answer that is begun"):
        body_of(replace(CHAT, prefix="1|"), "far", 0.0, [0])
    path, body = body_of(replace(SAVE, prefix="1|"), "far", 0.0, [0])
    assert (path, body["prompt"]) == ("completions", "Save1|")
    fixed = MarkersContext(TRAINED["compact"], {"lang": "de"})
    twice, once = (one.around(Speaking([])).cost(9, 5, 2) for one in (forced, fixed))
    assert (twice.prompt_tokens, twice.completion_tokens) == (18, 15) and once.prompt_tokens == 9


def test_a_server_that_is_sent_messages_is_refused_before_any_row(tmp_path: Path) -> None:
    own = write_trained(tmp_path, TRAINED["compact"])
    far: Any = {"markers_from": own, "markers_forced": True, "model": ["http://h/v1#far"]}
    with pytest.raises(PomonaError, match="http://h/v1#far: cannot go on with an answer"):
        open_markers(["lang=de"], **far)
    assert open_markers(["lang=de"], **far, raw=True) is not None


@pytest.mark.parametrize("given", [None, ["inferred"]])
def test_to_force_nothing_is_a_mistake(given: list[str] | None) -> None:
    with pytest.raises(PomonaError, match="there is nothing to force — give what answers"):
        open_markers(given, markers_forced=True)


def test_answers_come_from_a_store_before_and_behind_it(tmp_path: Path) -> None:
    async def twice(behind: bool) -> list[Any]:
        inner: Any = Speaking(["b x x", "|Hallo"])
        inner = CachedModel(inner, tmp_path / "s.db") if behind else inner
        model: Any = MarkedModel(inner, TRAINED["compact"], {})
        model = model if behind else CachedModel(model, tmp_path / "s.db")
        found = [(await model.reply(SAVE, [(0, 1.0)]))[0] for _ in range(2)]
        await model.close()
        return [(one.text, getattr(one, "markers", None)) for one in found]

    listed = ("Hallo", {"length": "long"})
    assert asyncio.run(twice(behind=True)) == [listed, listed]
    assert asyncio.run(twice(behind=False)) == [listed, ("Hallo", None)]


REWARDED: list[tuple[str, str]] = []


def reward(prompt: str, said: str) -> float:
    REWARDED.append((prompt, said))
    return 1.0


def test_whoever_chooses_sees_no_lists(fake: Any) -> None:
    def say(request: Request, index: int, heat: float) -> str:
        return f"{'ab'[index % 2]} x de|answer {index % 3}" if "~| x" in str(request) else "1|2"

    context = MarkersContext(TRAINED["compact"], {"lang": "de"})
    for name in ("hedged5-xmbr", "hedged5-chops", "sample4-best", "sample3-vote"):
        model = fake(say)
        details = {"name": name, "language": "English"} if "xmbr" in name else {"name": name}
        if "best" in name:
            details["reward"] = f"{__name__}:reward"
        plan = parse_strategy(details, trusted=True)
        found = asyncio.run(answer(SAVE, model, plan, context=[context]))
        texts = [one.text for one in found.candidates]
        assert texts == [f"answer {at % 3}" for at in range(len(texts))]
        chosen = {"length": ["short", "long"][found.chosen % 2], "lang": "de"}
        assert found.notes["markers"] == {"given": {"lang": "de"}, "inferred": chosen}
        prompts = [one.prompt for one, _, _ in model.made if one.prompt is not None]
        assert all(one.endswith("~| x x de") and one.count("~|") == 1 for one in prompts)
        if "xmbr" in name:
            assert prompts[-1] == "Save\n\nAnswer in English.~| x x de"
            evidence = found.notes["selection"]["evidence"]
            assert evidence == [f"answer {at % 3}" for at in range(len(evidence))]
        if "chops" in name:  # the model judges itself
            judging = model.made[-1][0].messages[0]["content"]
            assert "Save\n" in judging and "answer 1" in judging and "a x de" not in judging
    assert {prompt for prompt, _ in REWARDED} == {"Save"}
    assert {said for _, said in REWARDED} == {"answer 0", "answer 1", "answer 2"}
    plain = forecast_answer([fake()], SAVE, parse_strategy("greedy"))
    listed = forecast_answer([context.around(fake())], SAVE, parse_strategy("greedy"))
    assert listed.prompt_tokens > plain.prompt_tokens


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"langu": "de"}, 'no marker "langu" — did you mean "lang"?'),
        ({"length": "shrt"}, 'none of its values — did you mean "short"?'),
        ({"quality": "good"}, "must be a number"),
        ({"lang": "auto"}, 'has no "auto"'),
    ],
)
def test_a_wrong_marker_is_told(values: dict[str, Any], said: str) -> None:
    with pytest.raises(PomonaError) as caught:
        MarkersContext(TRAINED["compact"], values)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["lang=de", "lang=cs"], '"lang" is given twice'),
        (["lang=de", "inferred"], '"inferred" gives no value'),
    ],
)
def test_markers_that_contradict_each_other_are_told(
    tmp_path: Path, given: list[str], said: str
) -> None:
    with pytest.raises(PomonaError, match=said):
        open_markers(given, markers_from=write_trained(tmp_path, TRAINED["compact"]))
