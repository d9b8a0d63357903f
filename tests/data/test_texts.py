"""Operations on data whose text is a conversation, a field or a template."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.data import dedup, mix, rates, score
from pomona.data.audit import prune_templates, sample_audit
from pomona.errors import PomonaError
from pomona.models import locate
from pomona.records import write

ASKED = "How long does an egg take until it is soft inside and firm outside?"


def _row(n: int, asked: str, said: str) -> dict[str, Any]:
    return {
        "id": n,
        "lang": "en",
        "messages": [
            {"role": "system", "content": "You are kind."},
            {"role": "user", "content": asked},
            {"role": "assistant", "content": said},
        ],
        "meta": {"text": said, "n": n},
        "prompt": asked,
        "completion": said,
    }


ROWS = [
    _row(0, ASKED, "Six minutes in boiling water, and then a minute in cold water."),
    _row(1, ASKED, "Six minutes in boiling water, and then a minute in cold water!"),
    _row(2, ASKED, "Nobody knows."),
    _row(3, "What is the capital of France, and how many live there?", "Nobody knows."),
]


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    return write(pa.Table.from_pylist(ROWS), tmp_path / "in.parquet")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("messages", [0, 2, 3]),
        ("messages.user", [0, 3]),
        ("meta.text", [0, 1, 2]),
        (r"{prompt}\n{completion}", [0, 2, 3]),
        ("{meta.n}", [0, 1, 2, 3]),
    ],
)
def test_near_duplicates_of_any_text(
    chats: Path, tmp_path: Path, text: str, kept: list[int]
) -> None:
    card = dedup(chats, tmp_path / "out.parquet", column=text)
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.to_pylist() == [ROWS[n] for n in kept]
    assert found.schema.equals(pq.read_table(chats).schema)
    assert card.parameters["column"] == text and card.inputs[0].path == str(chats)
    pairs = pq.read_table(f"{tmp_path}/out.parquet.pairs.parquet")
    assert sorted({0, 1, 2, 3} - set(pairs["removed_id"].to_pylist())) == kept


def test_against_and_rates_take_the_same_texts(chats: Path, tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS[:1])
    dedup(chats, tmp_path / "out.jsonl", column="messages.user", against=table, method="exact")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert rows == ROWS[3:]
    assert rates(table, chats, column="messages").valid_in_train == 2


def test_semantic_duplicates_of_conversations(chats: Path, tmp_path: Path) -> None:
    dedup(chats, tmp_path / "out.parquet", method="semantic", column="messages.user", model="ui-xs")
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == [0, 3]


def test_rows_without_a_text_stop_or_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*ROWS, {"id": 9}]))
    with pytest.raises(PomonaError, match=r'in\.jsonl, row 5: column "messages" is null'):
        dedup(path, tmp_path / "out.jsonl", column="messages", method="exact")
    from pomona.records import read

    card = dedup(read(path, on_error="drop"), tmp_path / "out.jsonl", column="messages")
    assert (card.rows_in, card.rows_out, card.left_out) == (4, 3, 1)


def test_an_audit_shows_conversations(chats: Path, tmp_path: Path) -> None:
    sample_audit(chats, tmp_path / "audit", column="messages")
    with (tmp_path / "audit" / "labels.csv").open(newline="") as stream:
        texts = {row["text"] for row in csv.DictReader(stream)}
    assert f"You are kind.\n{ASKED}\nNobody knows." in texts and len(texts) == 4


def test_bytes_of_conversations_are_a_size(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    chats = {"chats": table.select(["messages"])}
    card = mix(chats, tmp_path / "out.parquet", size="bytes", dry_run=True)
    said = ["\n".join(one["content"] for one in row["messages"]) for row in ROWS]
    assert card.parameters["total"] == sum(map(len, said))
    double = table.select(["messages"]).append_column("chat", table["messages"])
    with pytest.raises(PomonaError, match="size \"bytes\" may be of 'messages' or 'chat'"):
        mix({"chats": double}, tmp_path / "out.parquet", size="bytes")


def test_templates_in_conversations(chats: Path, tmp_path: Path) -> None:
    card = prune_templates(
        chats, tmp_path / "out.parquet", prompt="messages.user", completion="messages.assistant"
    )
    assert card.removed == {"short completion": 2, "near-identical template": 1}


def test_the_last_answer_of_a_conversation_is_scored(chats: Path, tmp_path: Path) -> None:
    folder = tmp_path / "talking"
    shutil.copytree(locate("ui-xs"), folder)
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'owl' %}{{ raise_exception('no owls') }}{% endif %}"
        "<|en|>{{ m.content }}{% endfor %}<|to|>"
    )
    models = [str(folder)]
    score(chats, tmp_path / "a.parquet", column="messages", chat=True, models=models)
    asked = "<|en|>{messages.system}<|en|>{prompt}<|to|>"
    score(chats, tmp_path / "b.parquet", prompt=asked, completion="meta.text", models=models)
    one, two = (pq.read_table(tmp_path / f"{name}.parquet") for name in "ab")
    assert one["perplexity"].to_pylist() == pytest.approx(two["perplexity"].to_pylist(), rel=1e-4)
    assert one.drop_columns("perplexity").equals(pq.read_table(chats))
    odd = [{"role": "owl", "content": "hoo"}, {"role": "assistant", "content": "yes"}]
    for messages, told in (
        (odd, "the table, row 1: the model's chat template refuses the messages: no owls"),
        (odd[:1], "the table, row 1: the assistant's last message is empty — fill it"),
        (odd[1:], "row 1: what is said before the assistant's last message is empty — fill"),
    ):
        table = pa.table({"m": [messages]})
        with pytest.raises(PomonaError, match=told):
            score(table, tmp_path / "c.parquet", column="m", chat=True, models=models)


LONG = " ".join(f"word{n}" for n in range(30))


@pytest.mark.parametrize("keep", ["none", "first"])
def test_spans_are_struck_where_they_stand(tmp_path: Path, keep: Any) -> None:
    call = {"function": {"name": "f", "arguments": LONG}}
    parts = [{"type": "text", "text": f"one {LONG}"}, {"type": "image", "text": LONG}, None]
    table = pa.table({
        "n": [0, 1, 2],
        "m": pa.array([
            [{"role": "user", "content": parts, "tool_calls": None}, None],
            [{"role": "user", "content": None, "tool_calls": [call]},
             {"role": "x", "content": [{"type": None, "text": f"{LONG} two"}], "tool_calls": None}],
            [{"role": "user", "content": [{"type": "text", "text": "short"}], "tool_calls": None}],
        ]),
    })  # fmt: skip
    card = dedup(
        table.slice(0), tmp_path / "out.parquet", method="substring", column="m", min_length=20,
        keep=keep,
    )  # fmt: skip
    wanted = table.to_pylist()
    if keep == "none":
        wanted[0]["m"][0]["content"][0]["text"] = "one "
    wanted[1]["m"][1]["content"][0]["text"] = " two"
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.to_pylist() == wanted and found.schema.equals(table.schema)
    spans = pq.read_table(f"{tmp_path}/out.parquet.spans.parquet").to_pydict()
    assert spans["row"] == ([0, 1] if keep == "none" else [1])
    assert (card.rows_in, card.details["rows_struck"]) == (3, 2 if keep == "none" else 1)


def test_spans_in_columns_of_a_template_and_of_one_role(tmp_path: Path) -> None:
    rows = [{"a": f"x {LONG}", "b": {"c": "short", "n": 1}}, {"a": "y", "b": {"c": LONG, "n": 2}}]
    options: dict[str, Any] = {"method": "substring", "min_length": 20, "empty": "drop"}
    out = tmp_path / "out.jsonl"
    card = dedup(pa.Table.from_pylist(rows), out, column="{a} {b.c} {b.n}", **options)
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        {"a": "x ", "b": {"c": "short", "n": 1}},
        {"a": "y", "b": {"c": "", "n": 2}},
    ]
    card = dedup(pa.Table.from_pylist(rows), tmp_path / "c.jsonl", column="{b.c}{b.c}", **options)
    assert card.rows_out == 2 and not card.details["rows_struck"]
    chats = [[{"from": "human", "value": LONG}, {"from": "gpt", "value": LONG}]]
    card = dedup(pa.table({"m": chats}), tmp_path / "b.jsonl", column="m.user", **options)
    assert card.details["rows_struck"] == 0
    card = dedup(pa.table({"m": chats}), tmp_path / "d.jsonl", column="m", **options)
    assert card.removed == {"nothing left": 1}
    with pytest.raises(PomonaError, match='the table, row 1: column "m" is null'):
        dedup(pa.table({"m": [None, *chats]}), tmp_path / "e.jsonl", column="m", **options)


LINES = [
    '{"b":1, "messages": [{"role":"user","content":"a"}]}',
    '{"messages": [{"role":"assistant","content":null,"tool_calls":[{"function":{"name":"f"}}]}]}',
    '{"messages": [{"content":"a","role":"user"}]}',
    '{"messages":[{"role":"user","content":"\\u00e9"}], "extra": 1.50}',
]


def test_lines_that_stay_are_as_they_were(tmp_path: Path) -> None:
    """No key of others comes into a row, and nothing else of it changes."""
    (tmp_path / "in.jsonl").write_text("\n".join(LINES))
    out = tmp_path / "out.jsonl"
    dedup(tmp_path / "in.jsonl", out, method="exact", column="messages")
    assert out.read_text() == "\n".join([*LINES[:2], LINES[3]])
    dedup(tmp_path / "in.jsonl", tmp_path / "out.parquet", method="exact", column="messages")
    assert pq.read_table(tmp_path / "out.parquet")["extra"].to_pylist() == [None, None, 1.5]
