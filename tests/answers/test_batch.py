"""A batch gives the same rows back with answers; what is paid for is never paid for again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pomona.answers import COLUMNS, Budget
from pomona.errors import PomonaError, ResourceError
from pomona.models import ModelError, Sampling, load, wait_for
from pomona.records import read
from pomona.sample import answer_all, parse_strategy

TABLE = pa.table(
    {
        "id": [f"r{at}" for at in range(100)],
        "prompt": [f"question {at}" for at in range(100)],
        "lang": ["en", "fr"] * 50,
    }
)


def rows(path: Path) -> list[dict[str, Any]]:
    return read(path).to_table().to_pylist()


def test_rows_come_back_in_order_with_answers_and_a_card(tmp_path: Path, fake: Any) -> None:
    out, model, seen = tmp_path / "out.jsonl", fake(), []
    card = answer_all(
        TABLE,
        out,
        model=model,
        strategy="hedged3-mbr",
        group="lang",
        progress=lambda done, total: seen.append((done, total)),
    )
    answered = rows(out)
    assert [row["id"] for row in answered] == TABLE["id"].to_pylist()
    assert list(answered[0]) == [*TABLE.column_names, *COLUMNS.names]
    assert answered[7]["candidates"] == ["answer 0", "answer 1", "answer 2"]
    assert (
        answered[7]["answer"],
        answered[7]["stopped_by"],
        answered[7]["tokens"],
        answered[7]["error"],
    ) == (
        "answer 0",
        "complete",
        25,
        None,
    )
    assert {request.messages[0]["content"] for request, _, _ in model.made} == set(
        TABLE["prompt"].to_pylist()
    )
    assert seen[-1] == (100, 100)
    assert (card.rows_in, card.rows_out, card.details["answered"], card.details["stopped_by"]) == (
        100,
        100,
        100,
        {"complete": 100},
    )
    assert (
        card.details["spent"]
        == card.details["paid"]
        == {"prompt_tokens": 1000, "completion_tokens": 1500, "flops": 25e4, "money": 625.0}
    )
    assert [row["group"] for row in card.details["pools"]] == ["overall", "en", "fr"]
    written = json.loads((tmp_path / "out.jsonl.card.json").read_text())
    assert written["signature"] == card.signature
    assert card.signature.startswith(
        "sample|strategy:hedged3-mbr|models:fake:1|prompt:{prompt}|max_tokens:512|seed:0|"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "out.jsonl",
        "out.jsonl.answers.db",
        "out.jsonl.card.json",
    ]


def test_a_second_run_and_a_larger_pool_pay_only_for_what_is_new(tmp_path: Path, fake: Any) -> None:
    store, model = tmp_path / "s.db", fake()
    answer_all(TABLE, tmp_path / "a.parquet", model=model, strategy="hedged3-mbr", store=store)
    again = answer_all(
        TABLE, tmp_path / "b.parquet", model=model, strategy="hedged3-mbr", store=store
    )
    assert len(model.made) == 300
    assert again.details["paid"]["completion_tokens"] == 0
    assert again.details["spent"]["completion_tokens"] == 1500
    assert rows(tmp_path / "a.parquet") == rows(tmp_path / "b.parquet")
    answer_all(TABLE, tmp_path / "c.parquet", model=model, strategy="hedged5-mbr", store=store)
    assert len(model.made) == 500


def test_messages_templates_and_references(tmp_path: Path, fake: Any) -> None:
    model = fake(
        lambda request, index, _temperature: request.messages[-1]["content"] if index == 1 else "x"
    )
    messages = [
        [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ]
    ] * 2
    answer_all(
        pa.table({"messages": messages}),
        tmp_path / "m.jsonl",
        model=model,
        strategy="greedy",
        system="Be brief.",
    )
    assert [message["role"] for message in model.made[0][0].messages] == [
        "system",
        "user",
        "assistant",
        "user",
    ]
    table = pa.table({"q": ["one", "two"], "truth": ["Say one", "Say two"]})
    card = answer_all(
        table,
        tmp_path / "t.jsonl",
        model=model,
        strategy="sample2-first",
        prompt="Say {q}",
        reference="truth",
    )
    assert card.details["pools"][0]["hope"] == 100
    assert card.details["pools"][0]["chosen"] == 0
    answer_all(
        table,
        tmp_path / "r.jsonl",
        model=model,
        strategy="greedy",
        prompt="{q}",
        raw=True,
        max_tokens=3,
        seed=4,
    )
    request = model.made[-1][0]
    assert (request.prompt, request.messages, request.max_tokens, request.seed) == ("two", (), 3, 4)


@pytest.mark.parametrize(
    ("table", "options", "text"),
    [
        (
            {"prompt": ["a", None]},
            {},
            r'row 2, column "prompt": is null — fill it in, or leave the row out',
        ),
        ({"prompts": ["a"]}, {}, r'there is no column "prompt" — did you mean "prompts"\?'),
        ({"prompt": ["a"]}, {"prompt": "fixed"}, 'the prompt template "fixed" names no column'),
        ({"prompt": ["a"]}, {"prompt": "{prompt}", "messages": "prompt"}, "exclude each other"),
        ({"messages": ["[]"]}, {}, 'row 1, column "messages": holds no messages'),
        ({"messages": ["{"]}, {}, 'row 1, column "messages": is no JSON'),
        (
            {"prompt": ["a"], "score": ["b"], "answer": ["c"]},
            {},
            'there is a column "answer" already — rename it',
        ),
        (
            {"prompt": ["a"], "truth": pa.array([None], pa.string())},
            {"reference": "truth"},
            'row 1, column "truth": is null',
        ),
        ({"prompt": ["a"]}, {"reference": "truth"}, 'there is no column "truth"'),
        ({"prompt": ["a"]}, {"strategy": "hedge"}, 'there is no strategy "hedge"'),
        ({"prompt": ["a"]}, {"out": "o.csv"}, "csv"),
        ({"prompt": ["a"]}, {"raw": True, "system": "s"}, "raw sends the prompt alone"),
        ({"prompt": ["a"]}, {"concurrency": 0}, "concurrency is 0"),
    ],
)
def test_wrong_batches_ask_and_write_nothing(
    tmp_path: Path, fake: Any, table: Any, options: dict[str, Any], text: str
) -> None:
    model = fake()
    out = tmp_path / options.pop("out", "o.jsonl")
    with pytest.raises(PomonaError, match=text):
        answer_all(pa.table(table), out, model=model, **{"strategy": "greedy", **options})
    assert not model.made
    assert not list(tmp_path.iterdir())


def test_a_dry_run_tells_the_most_it_can_cost(tmp_path: Path) -> None:
    table, model = TABLE.slice(0, 20), load("ui-xs")
    options = {"model": model, "strategy": "hedged5-mbr", "max_tokens": 20}
    most = answer_all(table, tmp_path / "o.jsonl", dry_run=True, **options).details["at_most"]
    assert most["completion_tokens"] == 20 * 5 * 20
    assert most["prompt_tokens"] > 20 * len("question 1") / 4
    assert most["flops"] > 2 * 4e5 * most["completion_tokens"]
    half = answer_all(
        table, tmp_path / "o.jsonl", dry_run=True, budget=Budget(flops=most["flops"] / 2), **options
    )
    assert 9 <= half.details["rows_within_budget"] <= 11
    assert not list(tmp_path.iterdir())
    spent = answer_all(table, tmp_path / "o.jsonl", **options).details["spent"]
    wait_for(model.close())
    assert spent["completion_tokens"] <= most["completion_tokens"]
    assert 0 < spent["flops"] <= most["flops"]


def test_a_budget_ends_within_one_sample_and_raising_it_goes_on(tmp_path: Path, fake: Any) -> None:
    model, store = fake(), tmp_path / "s.db"
    options = {"model": model, "strategy": "hedged3-mbr", "store": store, "max_tokens": 5}
    card = answer_all(TABLE, tmp_path / "a.jsonl", budget=Budget(tokens=600), **options)
    spent = card.details["spent"]
    assert 600 <= spent["prompt_tokens"] + spent["completion_tokens"] < 615
    answered = rows(tmp_path / "a.jsonl")
    left = [row for row in answered if row["answer"] is None]
    assert {row["stopped_by"] for row in left} == {"tokens"}
    assert sum(len(row["candidates"] or ()) for row in answered) == len(model.made)
    assert card.details["stopped_by"]["tokens"] >= len(left) > 70
    answer_all(TABLE, tmp_path / "b.jsonl", **options)
    assert len(model.made) == 300


def test_rows_that_cannot_be_answered_are_marked_and_the_others_answered(
    tmp_path: Path, fake: Any
) -> None:
    def say(request: Any, index: int, temperature: float) -> str:
        if "question 7" in request.messages[0]["content"]:
            raise ModelError("too long", status=400)
        return "fine"

    card = answer_all(TABLE, tmp_path / "o.jsonl", model=fake(say), strategy="greedy")
    answered = rows(tmp_path / "o.jsonl")
    assert [row["id"] for row in answered if row["error"] == "too long"] == [
        f"r{at}" for at in (7, *range(70, 80))
    ]
    assert card.details["answered"] == 89
    assert card.details["errors"] == {"too long": 11}


def test_a_dead_server_ends_the_batch_and_what_was_paid_is_kept(tmp_path: Path, fake: Any) -> None:
    model = fake()

    def say(request: Any, index: int, temperature: float) -> str:
        model.broken = len(model.made) > 40
        return "fine"

    model.say = say
    out = tmp_path / "o.jsonl"
    with pytest.raises(
        ResourceError,
        match=(
            r"5 requests in a row failed, the last: fake: the server is down — run the same "
            r"command again"
        ),
    ):
        answer_all(TABLE, out, model=model, strategy="greedy")
    assert not out.exists()
    assert len(model.made) == 41
    model.broken, model.say = False, lambda _request, _index, _temperature: "fine"
    answer_all(TABLE, out, model=model, strategy="greedy")
    assert len(model.made) == 100
    assert all(row["answer"] == "fine" for row in rows(out))


PROGRAM = """
import asyncio, hashlib, sys
import pyarrow as pa
from pomona.models import Model, Reply, Spent
from pomona.sample import answer_all

class Scripted(Model):
    name, identity, abilities = "m", "m", frozenset()
    async def each(self, request, samples):
        for index, temperature in samples:
            await asyncio.sleep(0.001)
            with open(sys.argv[2], "a") as log:
                log.write(f"{request.messages[0]['content']}/{index}\\n")
            text = hashlib.sha256(f"{request}{index}".encode()).hexdigest()[:5]
            yield Reply(text, "stop", Spent(1, 2), "m", index, temperature)
    async def reply(self, request, samples):
        return [reply async for reply in self.each(request, samples)]
    async def stream(self, request): ...
    async def logprobs(self, request, completions, *, end=False): ...
    async def vectors(self, texts): ...
    def tokens(self, request): ...
    def cost(self, prompt, answer=0, samples=1): ...
    async def close(self): ...

table = pa.table({"prompt": [f"p{at}" for at in range(60)]})
answer_all(table, sys.argv[1], model=Scripted(), strategy="hedged5-mbr")
"""


def _start(out: Path, log: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(out), str(log)], env=os.environ)


def test_killed_and_resumed_nothing_is_paid_twice_and_the_choice_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, log = tmp_path / "killed.jsonl", tmp_path / "log"
    child = _start(out, log)
    while child.poll() is None and (not log.exists() or log.read_text().count("\n") < 100):
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not out.exists()
    before = log.read_text().count("\n")
    assert 100 <= before < 300
    assert _start(out, log).wait() == 0
    made = log.read_text().split()
    assert len(set(made)) == 300
    assert len(made) <= 301  # the one that was made and not yet written when the process died
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "whole.jsonl"), str(tmp_path / "log2")])
    exec(compile(PROGRAM, "whole", "exec"), {"__name__": "whole"})
    assert rows(out) == rows(tmp_path / "whole.jsonl")


def test_a_budget_of_money_needs_a_price_of_what_is_opened_here(tmp_path: Path, fake: Any) -> None:
    out, budget = tmp_path / "o.jsonl", Budget(money=1)
    for settings in (None, {"threads": 1}):
        with pytest.raises(PomonaError, match="--budget-money: a budget of money needs a price"):
            answer_all(TABLE, out, model="ui-xs", budget=budget, settings=settings, dry_run=True)
    with pytest.raises(PomonaError, match=r'--price: "1;2" is no price — write PROMPT,ANSWER'):
        answer_all(TABLE, out, model="ui-xs", budget=budget, settings={"price": "1;2"})
    model = fake()  # has a price of its own, or none by intent
    answer_all(TABLE, out, model=model, strategy="greedy", budget=budget, dry_run=True)


def test_details_of_a_strategy_may_stand_beside_its_name(tmp_path: Path, fake: Any) -> None:
    model, out = fake(), tmp_path / "o.jsonl"
    named = {"name": "hedged3-best", "reward": "sum"}
    whole = answer_all(TABLE, out, model=model, strategy=named, dry_run=True)
    for strategy in ("hedged3-best", parse_strategy("hedged3-best"), {"name": "hedged3-best"}):
        card = answer_all(TABLE, out, model=model, strategy=strategy, reward="sum", dry_run=True)
        assert card.parameters == whole.parameters
    with pytest.raises(PomonaError, match="extract does not belong to best"):
        answer_all(TABLE, out, model=model, strategy="hedged3-best", extract="number")


def test_an_answer_drawn_with_a_penalty_is_not_taken_for_one_without(
    tmp_path: Path, fake: Any
) -> None:
    model, out = fake(), tmp_path / "o.jsonl"
    asked: dict[str, Any] = {"model": model, "strategy": "sample2-first"}
    ways: list[dict[str, Any]] = [
        {},
        {"sampling": Sampling(repetition_penalty=1.1)},
        {"sampling": Sampling(logit_bias={5: -3.0}, stop="\n")},
        {"sampling": Sampling(top_k=7)},
        {"strategy": "sample2-first-topk8"},
    ]
    for paid in (20, 0):
        for way in ways:
            card = answer_all(TABLE.slice(0, 2), out, **{**asked, **way})
            assert card.details["paid"]["completion_tokens"] == paid, way
            assert ("|top_k:" in card.signature) == (way is ways[3])
    card = answer_all(TABLE.slice(0, 2), out, **{**asked, **ways[2]})
    assert '|logit_bias:{5: -3.0}|stop:["\\n"]|' in card.signature  # one line
    before = out.read_bytes()
    with pytest.raises(PomonaError, match=r"top_k is -2 — use a whole number from 0") as caught:
        answer_all(TABLE, out, **asked, sampling=Sampling(top_k=-2))
    assert caught.value.exit_code == 2 and out.read_bytes() == before
    with pytest.raises(PomonaError, match="max_tokens is 0 — ask for at least one token"):
        answer_all(TABLE, out, **asked, max_tokens=0)
    unknown = Sampling(logit_bias={6144: 1.0})
    with pytest.raises(
        PomonaError, match=r"logit_bias: there is no token 6144; the model"
    ) as caught:
        answer_all(TABLE, out, model="ui-xs", strategy="greedy", sampling=unknown)
    assert caught.value.exit_code == 2 and out.read_bytes() == before


def test_what_is_compared_is_what_the_vote_extracts(tmp_path: Path, fake: Any) -> None:
    said = ["So it is 1,200.", "1200.0 apples", "It is 7."]
    model = fake(lambda _request, index, _temperature: said[index % 3])
    table = pa.table({"prompt": ["How many?", "And then?"], "truth": ["1200", "12"]})
    out, asked = tmp_path / "out.jsonl", {"model": model, "strategy": "sample3-vote-number"}
    card = answer_all(table, out, reference="truth", metric="exact_match", **asked)
    assert card.details["pools"][0]["greedy"] == 50 and "extract:" in card.signature
    assert [row["answer_extracted"] for row in rows(out)] == ["1200", "1200"]
    # Options as they stand in recipes; of other strategies too.
    metric = '{"name": "exact_match", "extract": "regex:is (.*)[.]"}'
    asked = {"model": model, "strategy": "greedy", "reference": "truth", "metric": metric}
    answer_all(table, out, **asked)
    assert [row["answer_extracted"] for row in rows(out)] == ["1,200", "1,200"]
    answer_all(table, out, model=model, strategy="greedy")
    assert [row["answer_extracted"] for row in rows(out)] == [None, None]
    with pytest.raises(PomonaError, match=r"--metric: is not JSON: .* — write {.name"):
        answer_all(table, out, **{**asked, "metric": "{name"})


def test_calls_and_notes_are_written(tmp_path: Path, fake: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "get", "arguments": "{}"}}

    class Calling(fake):
        async def each(self, request: Any, samples: Any) -> Any:
            async for reply in super().each(request, samples):
                yield replace(reply, text="", tool_calls=(call,))

    answer_all(TABLE.slice(0, 1), tmp_path / "out.jsonl", model=Calling(), strategy="hedged3-mbr")
    row = rows(tmp_path / "out.jsonl")[0]
    assert json.loads(row["answer_tool_calls"]) == [call]
    assert set(json.loads(row["answer_notes"])) == {"selection", "pool"}
