"""Conversations that are one object of lists are read as those that are lists of messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from pomona import data
from pomona.answers.rows import RowPrompt
from pomona.cli import main
from pomona.errors import PomonaError
from pomona.records import as_messages, as_they_were, last_answer, read
from pomona.tasks import items_from

from .test_texts import MESSAGES, PARTS, SHARED, _texts

Chat = list[dict[str, Any]]
TALKS: list[Chat] = [
    [{"role": "user", "content": f"{what} six of"}, {"role": "assistant", "content": said}]
    for what, said in (("How long do", "Six minutes"), ("How much cost", "Ask a cook, dear"))
]
WORDS = st.text("ab \n", max_size=3)
MADE = st.lists(
    st.lists(
        st.fixed_dictionaries({"role": st.sampled_from(["user", "gpt"]), "content": WORDS}),
        max_size=3,
    ),
    min_size=1,
    max_size=4,
)


def beside(chat: Chat | None) -> dict[str, list[Any]] | None:
    """A conversation as one object of lists, as `datasets` saves a sequence of objects."""
    if chat is None:
        return None
    names = dict.fromkeys(name for message in chat for name in message)
    return {name: [message.get(name) for message in chat] for name in names}


def column(chats: list[Chat | None]) -> pa.Array:
    kind = pa.array([chat for chat in chats if chat] or [[{"role": "a", "content": "b"}]]).type
    fields = [pa.field(one.name, pa.list_(one.type)) for one in kind.value_type]
    empty = {one.name: [] for one in fields}
    return pa.array([None if chat is None else beside(chat) or empty for chat in chats],
                    pa.struct(fields))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(MADE, st.integers(0, 3))
def test_messages_come_out_and_go_back(chats: list[Chat], first: int) -> None:
    whole = column([*chats, None])
    for beside in (whole, whole[first:]):
        messages = as_messages(beside)
        assert messages.to_pylist() == [*chats, None][first if beside is not whole else 0 :]
        assert as_they_were(messages, beside).equals(beside)


@pytest.mark.parametrize("chat", [MESSAGES, SHARED, PARTS])
@pytest.mark.parametrize("text", ["m", "m.user", "{m.user}\n{m}"])
def test_texts_are_the_same(chat: Chat, text: str) -> None:
    assert _texts([{"m": beside(chat)}], text) == _texts([{"m": chat}], text)
    assert last_answer(beside(chat) or {}) == last_answer(chat)


def test_lists_of_unequal_lengths_are_malformed_rows(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    good, bad = beside(TALKS[0]), {"role": ["user"], "content": ["a", "b"]}
    path.write_text("".join(json.dumps({"m": row}) + "\n" for row in (good, bad, None)))
    options: Any = {"column": "m", "method": "exact"}
    with pytest.raises(PomonaError, match=r'in\.jsonl, row 2: column "m" holds no text'):
        data.dedup(path, tmp_path / "o.jsonl", **options)
    card = data.dedup(read(path, on_error="drop"), tmp_path / "o.jsonl", **options)
    assert (card.left_out, card.rows_out) == (2, 1)


def test_spans_are_struck_where_they_stand(tmp_path: Path) -> None:
    made = []
    for talks in (TALKS, [beside(talk) for talk in TALKS]):
        path = tmp_path / "in.jsonl"
        path.write_text("".join(json.dumps({"m": talk}) + "\n" for talk in talks))
        data.dedup(path, tmp_path / "o.jsonl", column="m", method="substring", min_length=2)
        made.append([row["m"] for row in read(tmp_path / "o.jsonl").to_table().to_pylist()])
    assert made[1] == [beside(talk) for talk in made[0]]
    assert made[0][0][0]["content"] != TALKS[0][0]["content"]


def test_models_are_asked_and_markers_go_before_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"messages": beside(talk)} for talk in TALKS]
    asked = RowPrompt(messages="messages").request({"messages": rows[0]["messages"]}, "row 1")
    assert [*asked.messages] == TALKS[0]
    only = [{"messages": beside(talk[:1]), "completion": "x"} for talk in TALKS]
    items = items_from(pa.Table.from_pylist(only), "{messages}", "{completion}", None)
    assert sorted(items.prompts) == sorted(talk[0]["content"] for talk in TALKS)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    Path("in.jsonl").write_text(text)
    Path("marks.yaml").write_text("markers: {chars: {kind: integer, measure: characters}}\n")
    for line in ("tag in.jsonl --out t.jsonl --taxonomy marks.yaml",
                 "apply t.jsonl --out a.jsonl --taxonomy marks.yaml",
                 "strip a.jsonl --out s.jsonl"):  # fmt: skip
        assert main(["markers", *line.split()]) == 0
    said = read("a.jsonl").to_table()["messages"].to_pylist()
    assert all(
        one["content"][1] != talk[1]["content"] for one, talk in zip(said, TALKS, strict=True)
    )
    back = read("s.jsonl").to_table()["messages"].to_pylist()
    assert back == [row["messages"] for row in rows]
