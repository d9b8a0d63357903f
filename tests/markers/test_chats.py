"""Conversations: their last answer is tagged, and all else comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st
from tests.markers.test_lists import PIECES

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.markers import Offered, Taxonomy, apply, report, strip, tag, training_rows
from pomona.markers.training import bare_rows
from pomona.records import read

OWN = """
markers:
  characters: {kind: integer, measure: characters}
  untranslated: {kind: values, measure: untranslated, values: ["yes", "no"]}
  tone: {kind: values, values: {asking: {rules: [{regex: "[?]"}]}, telling: {rules: [{regex: "[.]"}]}}}
"""
TALK = [
    [("system", "Be kind."), ("user", "Hi ~|1"), ("assistant", "Hm?"), ("user", "So"),
     ("assistant", "So."), ("user", "Thanks")],
    [("user", "x <MARKER_LIST> </MARKER_LIST>"), ("assistant", "x <MARKER_LIST> </MARKER_LIST>")],
]  # fmt: skip


def messages(talk: list[tuple[str, str]], role: str = "role", content: str = "content") -> Any:
    return [{role: one, content: text} for one, text in talk]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(OWN)
    return tmp_path


@pytest.mark.parametrize("form", get_args(Offered))
@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
def test_the_last_answer_is_tagged_and_the_rows_come_back(
    here: Path, form: str, keys: tuple[str, str]
) -> None:
    column = "messages" if keys[0] == "role" else "conversations"
    rows = [{"id": at, column: messages(talk, *keys), "n": 1} for at, talk in enumerate(TALK)]
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["markers", "tag", "in.jsonl", "--out", "t.jsonl", "--taxonomy", "own.yaml"]) == 0
    told = read("t.jsonl").to_table().to_pylist()
    assert [row["marker_characters"] for row in told] == [3, len(TALK[1][1][1])]
    assert [row["marker_untranslated"] for row in told] == ["no", "yes"]
    assert told[0]["marker_tone"] == "telling"
    apply("t.jsonl", "a.jsonl", taxonomy="own.yaml", form=form, dataset_dropout=0, sample_dropout=0)  # pyright: ignore[reportArgumentType]
    made = [row[column] for row in read("a.jsonl").to_table().to_pylist()]
    texts = [[one[keys[1]] for one in row] for row in made]
    if form == "compact":
        assert texts[0] == ["Be kind.", "Hi ~\\|1", "Hm?", "So~| 3 b d", " 3 b d|So.", "Thanks"]
    else:
        assert texts[0][3].startswith("So <MARKER_LIST> <characters> 3 </characters>")
        assert texts[0][4].endswith("</MARKER_LIST> So.")
        assert texts[1][0].startswith("x <\\MARKER_LIST> <\\/MARKER_LIST> <MARKER_LIST>")
    for name in ("t", "a"):
        strip(f"{name}.jsonl", f"{name}-back.jsonl")
        assert Path(f"{name}-back.jsonl").read_bytes() == Path("in.jsonl").read_bytes()
    found = report("a.jsonl", tokenizer="ui-s").tokens
    assert found is not None and found["answer_list"] > 0 < found["prompt_list"]


def test_prompts_and_completions_may_be_lists_of_messages_each(here: Path) -> None:
    rows = {
        "prompt": [messages([("user", "a"), ("assistant", "b ~|"), ("user", "c")])],
        "completion": [messages([("assistant", "d"), ("tool", "~|0"), ("assistant", "e?")])],
    }
    source = pa.table(rows)
    tag(source, "t.parquet", taxonomy="own.yaml")  # pyright: ignore[reportArgumentType]
    table = read("t.parquet").to_table()
    told = Taxonomy.model_validate({"markers": {"tone": {"kind": "text"}}})
    options: Any = {"form": "compact", "dataset_dropout": 0, "sample_dropout": 0}
    made = training_rows(table, told, **options)
    assert [one["content"] for one in made["prompt"][0].as_py()] == ["a", "b ~\\|", "c~| asking"]
    assert [one["content"] for one in made["completion"][0].as_py()] == ["d", "~\\|0", " asking|e?"]
    assert bare_rows(made, ["characters", "untranslated", "tone"]) == source


TEXTS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join)
PART = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "image"]), "text": TEXTS | st.none()}
)
SPOKEN = [
    TEXTS,
    st.tuples(st.lists(PART, max_size=2), TEXTS, st.lists(PART, max_size=2)).map(
        lambda told: [*told[0], {"type": "text", "text": told[1]}, *told[2]]
    ),
]
OTHER = [TEXTS | st.none(), st.lists(PART, max_size=2) | st.none()]
ROLES = st.sampled_from(["user", "assistant", "system", "tool", None])


def talks(kind: int) -> st.SearchStrategy[Any]:
    """Conversations of texts, or of parts."""

    def said(role: Any, content: Any) -> st.SearchStrategy[Any]:
        return st.fixed_dictionaries({"role": role, "content": content})

    rest = st.lists(st.none() | said(ROLES, OTHER[kind]), max_size=2)
    both = (said(st.just(role), SPOKEN[kind]) for role in ("user", "assistant"))
    user, assistant = (one.map(lambda told: [told]) for one in both)
    talk = st.tuples(rest, user, rest, assistant, rest)
    return st.lists(talk.map(lambda several: [one for part in several for one in part]), max_size=3)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([0, 1]).flatmap(lambda kind: st.tuples(st.just(kind), talks(kind))))
def test_any_conversation_comes_back(told_rows: tuple[int, list[Any]]) -> None:
    parts, rows = told_rows
    inner = pa.list_(pa.struct([("type", pa.string()), ("text", pa.string())]))
    content = inner if parts else pa.string()
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", content)]))
    columns = {"messages": pa.array(rows, kind), "marker_n": pa.array([7] * len(rows), pa.int64())}
    table = pa.table(columns)
    told = Taxonomy.model_validate({"markers": {"n": {"kind": "integer"}}})
    for form in get_args(Offered):
        made = training_rows(
            table, told, prompt="messages", completion="messages", form=form,
            dataset_dropout=0.3, sample_dropout=0,
        )  # fmt: skip
        assert bare_rows(made, ["n"]) == table.drop_columns(["marker_n"])
        for row in made["messages"].to_pylist():
            asked = [_said(one) for one in row if one and one["role"] != "assistant"]
            sign = "<MARKER_LIST>" if form == "verbose" else "~|"
            assert sum(text.count(sign) for text in asked) <= 1


def _said(message: Any) -> str:
    content = message["content"] or ""
    if isinstance(content, str):
        return content
    return "".join(part["text"] or "" for part in content if part["type"] == "text")


def test_a_conversation_without_a_side_is_told(here: Path) -> None:
    rows = [messages(TALK[1]), messages([("user", "a")])]
    tag(pa.table({"messages": rows}), "t.parquet", taxonomy="own.yaml")  # pyright: ignore[reportArgumentType]
    told = read("t.parquet").to_table().to_pylist()
    assert told[1]["marker_characters"] is None
    with pytest.raises(PomonaError, match=r't.parquet, row 2: "messages" has no answer'):
        apply("t.parquet", "a.parquet", taxonomy="own.yaml")
    with pytest.raises(PomonaError, match="neither text nor messages"):
        tag(pa.table({"messages": [["a"]]}), "u.parquet")  # pyright: ignore[reportArgumentType]
