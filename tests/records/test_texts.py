"""What may stand for the text of a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from pomona.errors import PomonaError
from pomona.records import Records, as_records, last_answer, read, split, with_text, write
from pomona.records.texts import TextRows

CALL = {"id": "a1", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "weather?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "rain"},
    {"role": "assistant", "content": "It rains."},
]
SHARED = [
    {"from": "human", "value": "hi"},
    {"from": "gpt", "value": ""},
    {"from": "gpt", "value": "hé"},
]
PARTS = [
    {"role": "user", "content": [
        {"type": "text", "text": "look"}, {"type": "image_url", "text": None},
        {"type": "text", "text": "here"},
    ]},
    {"role": "assistant", "content": []},
]  # fmt: skip


def _texts(rows: list[dict[str, Any]], text: str, **options: Any) -> list[str | None]:
    records, name = with_text(as_records(pa.Table.from_pylist(rows)), text, **options)
    return [one for batch in records.select(name).stream() for one in batch.column(0).to_pylist()]


@pytest.mark.parametrize(
    ("row", "text", "told"),
    [
        ({"m": MESSAGES}, "m", 'Be brief.\nweather?\nweather {"city": "Paris"}\nrain\nIt rains.'),
        ({"m": MESSAGES}, "m.user", "weather?"),
        ({"m": MESSAGES}, "m.assistant", 'weather {"city": "Paris"}\nIt rains.'),
        ({"m": MESSAGES}, "m.content", "Be brief.\nweather?\nrain\nIt rains."),
        ({"m": MESSAGES}, "{m.system} {m.tool}", "Be brief. rain"),
        ({"m": SHARED}, "m", "hi\nhé"),
        ({"m": SHARED}, "m.assistant", "hé"),
        ({"m": PARTS}, "m", "look\nhere"),
        ({"a": {"b": {"c": "x"}, "n": 3}}, "a.b.c", "x"),
        ({"a": {"b": {"c": "x"}, "n": 3}}, r"{a.b.c}\n{{{a.n}}}", "x\n{3}"),
        ({"a.b": "flat", "a": {"b": "deep"}}, "a.b", "flat"),
        ({"a": {"m": MESSAGES}}, "a.m.user", "weather?"),
        ({"t": ["one", "", "two"]}, "t", "one\ntwo"),
        ({"text of m": "x", "m": SHARED}, "m", "hi\nhé"),
    ],
)
def test_a_text_is_made_of_what_is_named(row: dict[str, Any], text: str, told: str) -> None:
    assert _texts([row, row], text) == [told, told]


def test_calls_as_objects_say_the_same_in_any_row() -> None:
    def calling(**given: Any) -> dict[str, Any]:
        call = {"id": str(given), "function": {"name": "f", "arguments": given}}
        return {"m": [{"role": "assistant", "content": "", "tool_calls": [call]}]}

    assert _texts([calling(a=1), calling(b=[{"c": 2}])], "m") == [
        'f {"a": 1}',
        'f {"b": [{"c": 2}]}',
    ]


@pytest.mark.parametrize(
    ("row", "text", "error"),
    [
        ({"m": SHARED}, "text", 'there is no column "text" — name --column m'),
        (
            {"messages": SHARED, "prompt": "a", "completion": "b"},
            "text",
            r'name one of them: --column messages or --column "\{prompt\}\\n\{completion\}"',
        ),
        (
            {"instruction": "a", "input": "", "output": "b"},
            "text",
            r'name --column "\{instruction\}\\n\{input\}\\n\{output\}"',
        ),
        ({"tex": "x"}, "text", 'there is no column "text" — did you mean "tex"'),
        ({"m": SHARED}, "m.usr", 'there is no field "usr" in "m" — did you mean "user"'),
        ({"m": SHARED}, "m.user.x", 'there is no field "user" in "m"'),
        ({"a": {"b": "x"}}, "a.c", 'there is no field "c" in "a" — known: b'),
        ({"a": "x"}, "a.c", 'there is no field "c" in "a" — it holds string'),
        ({"a": {"b": 3}}, "a.b", 'field "a.b" holds int64, not text — name a column of strings'),
        ({"a": {"b": 3}}, "a", 'column "a" holds objects, not text'),
        ({"a": [3]}, "{a}", 'column "a" holds lists, not text'),
        ({"a": "x"}, "{a!r}", "names a field in another way — write {COLUMN}"),
        ({"a": "x"}, "{}", "names a field in another way"),
        ({"a": "x"}, "}{", "cannot be read: Single '}' encountered"),
        ({"a": "x"}, "{{}}", "names no column"),
        ({"a": "x"}, "{b}", 'there is no column "b" — known: a'),
    ],
)  # fmt: skip
def test_what_holds_no_text_is_named(row: dict[str, Any], text: str, error: str) -> None:
    with pytest.raises(PomonaError, match=error):
        _texts([row], text)


@pytest.mark.parametrize(
    ("rows", "text", "error"),
    [
        (
            [{"m": SHARED}, {"m": None}],
            "m",
            'row 2: column "m" is null — fill it, or leave out rows',
        ),
        ([{"m": SHARED}, {"m": []}], "m", 'row 2: column "m" holds no text'),
        ([{"m": SHARED}], "m.system", 'row 1: field "m.system" holds no text'),
        ([{"a": {"b": "x"}}, {"a": None}], "a.b", 'row 2: field "a.b" holds no text'),
        ([{"a": "x", "b": "y"}, {"a": "x", "b": None}], "{a}{b}", 'row 2: column "b" is null'),
    ],
)
def test_a_row_without_text_is_named(rows: list[dict[str, Any]], text: str, error: str) -> None:
    with pytest.raises(PomonaError, match=error):
        _texts(rows, text)


def test_rows_without_text_are_set_aside_as_they_are(tmp_path: Path) -> None:
    path, rejects = tmp_path / "in.jsonl", tmp_path / "rejects.jsonl"
    path.write_text('{"n": 1, "m": [{"from": "human", "value": "a"}]}\n{"n": 2, "m": []}\n')
    records, name = with_text(read(path, on_error="reject", rejects=rejects), "m")
    whole = records.complete(name)
    assert whole.select("n").to_table().to_pylist() == [{"n": 1}]
    assert whole.rejected == 1
    (line,) = rejects.read_text().splitlines()
    assert json.loads(json.loads(line)["text"]) == {"n": 2, "m": []}


def test_rows_are_numbered_in_pieces_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.records.pieces.PIECE_BYTES", 100)
    table = pa.table({"a": ["x" * 40] * 7 + [None], "b": list(range(8))})
    records, name = with_text(read(write(table, tmp_path / "a.jsonl")), "{a}{b}")
    pieces = split(records)
    assert len(pieces) > 2
    with pytest.raises(PomonaError, match=r'a\.jsonl, row 8: column "a" is null'):
        for piece in pieces:
            piece.records.select(name).to_table()


def test_texts_stand_beside_the_columns_and_can_be_added_twice() -> None:
    table = pa.table({"a": ["x", "y"], "b": [1, 2]})
    records, one = with_text(as_records(table), "{a}")
    records, two = with_text(records, "{a}{b}")
    again, _ = with_text(records.select("a", "b"), "{a}")
    assert records.column_names == ["a", "b", one, two] and again.column_names == ["a", "b", one]
    assert records.where(**{two: "y2"}).select("b").to_table().to_pylist() == [{"b": 2}]
    assert records.select("a", "b").to_table() == table
    assert isinstance(again, Records) and with_text(again, "a") == (again, "a")


def test_the_last_answer_and_what_was_said_before() -> None:
    before, answer = last_answer(pa.array([MESSAGES])[0].as_py())
    assert answer == "It rains." and [one["role"] for one in before] == [
        "system", "user", "assistant", "tool",
    ]  # fmt: skip
    assert before[2] == {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert last_answer(SHARED) == (
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}],
        "hé",
    )
    assert last_answer(SHARED[:1])[1] == ""


_WORDS = st.text("ab \n", max_size=3)
_CHATS = st.lists(
    st.none() | st.lists(st.fixed_dictionaries({
        "role": st.sampled_from(["user", "assistant", "x"]), "content": st.none() | _WORDS,
    }), max_size=3),
    min_size=1, max_size=6,
)  # fmt: skip
_KIND = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))


@settings(max_examples=60, deadline=None)
@given(_CHATS, st.integers(0, 3), st.sampled_from([None, "user", "assistant"]))
def test_arrow_says_what_python_says(chats: list[Any], start: int, role: str | None) -> None:
    from pomona.records.chats import chat_texts

    column = pa.array(chats, _KIND).slice(start)
    wanted = [
        "\n".join(
            one["content"]
            for one in chat or ()
            if one["content"] and (role is None or one["role"] == role)
        )
        or None
        for chat in chats[start:]
    ]
    assert chat_texts(column, role).to_pylist() == wanted


def test_contents_of_both_kinds_are_read_as_lists_of_parts(tmp_path: Path) -> None:
    """One after the other in a conversation, as the API of OpenAI takes them."""
    part = {"type": "image_url", "image_url": {"url": "x"}}
    told = [{"role": "system", "content": "Look."}, {"role": "user", "content": [part]}]
    rows = [{"m": told, "n": 1}, {"m": [{"role": "user", "content": None}], "n": 2}]
    (tmp_path / "a.json").write_text(json.dumps([*rows, {"m": told[:1], "n": 3}]))
    records, name = with_text(read(tmp_path), "m.system")
    assert records.source.source.notes == (  # type: ignore[attr-defined]
        'column "m" has contents that are texts, read as lists of one part, as others are',
    )
    first = records.select("m").head(1).to_table()["m"][0].as_py()[0]["content"]
    assert first == [{"type": "text", "image_url": None, "text": "Look."}]
    made = TextRows(records.source.source, records.source.made, strict=False, first=0)  # type: ignore[attr-defined]
    found = [row for batch in made.stream([name], None) for row in batch[name].to_pylist()]
    assert found == ["Look.", None, "Look."]
    (tmp_path / "a.json").write_text(
        json.dumps([{"m": told[:1]}, {"m": [{"role": "x", "content": 5}]}])
    )
    with pytest.raises(PomonaError, match='element 2: column "m" holds'):
        read(tmp_path).to_table()
