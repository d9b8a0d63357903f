"""Rows become items: with one reference or several, plain prompts or messages, options or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sacrebleu.metrics.chrf import CHRF

from pomona import records
from pomona.errors import PomonaError
from pomona.models import Request
from pomona.tasks import Items, items_from, metric


def made(rows: list[dict[str, Any]], *, completion: str = "{answer}", **more: Any) -> Items:
    return items_from(pa.Table.from_pylist(rows), "{prompt}", completion, None, **more)


def asked(text: str, role: str = "user") -> dict[str, str]:
    return {"role": role, "content": text}


def again(items: Items) -> Items:
    return Items.from_table(items.to_table())


def test_plain_items_are_what_they_were() -> None:
    """Ids are part of what finished runs and answers are found by."""
    items = made([{"prompt": "p", "answer": "a"}])
    assert items.ids == ["e4c2e2f70fdde58f"] and items.clusters == items.ids
    assert items.references is items.completions and items.reference_count == 1
    assert items.request(0, max_tokens=5) == Request(prompt="p", max_tokens=5)
    assert items.request(0, chat=True) == Request(messages=(asked("p"),))
    assert again(items) == items


def test_several_references_of_which_the_first_is_trained_on(tmp_path: Path) -> None:
    rows = [
        {"prompt": "save", "answer": ["Datei sichern", "Datei speichern"]},
        {"prompt": "open", "answer": ["öffnen", "aufmachen"]},
    ]
    lines = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "rows.jsonl").write_text(lines, encoding="utf-8")
    items = items_from(
        records.read(str(tmp_path / "rows.jsonl")).to_table(), "{prompt}", "{answer}", None
    )
    assert sorted(items.completions) == ["Datei sichern", "öffnen"] and items.reference_count == 2
    outputs = ["Datei speichern!" if "Datei" in one else "aufgemacht" for one in items.completions]
    chrf = metric("chrf", references=items.reference_count)
    ours = float(chrf.aggregate(chrf.statistics(outputs, items.references).sum(0)))
    streams = [list(stream) for stream in zip(*items.references, strict=True)]
    assert ours == pytest.approx(CHRF().corpus_score(outputs, streams).score, abs=1e-9)
    assert again(items) == items and again(items).take([1]).references == [items.references[1]]


def test_references_fill_a_template_and_their_number_may_vary() -> None:
    rows = [{"prompt": "a", "answer": ["x"]}, {"prompt": "b", "answer": ["y", "z"]}]
    items = made(rows, completion="<{answer}>")
    assert sorted(items.references) == [["<x>"], ["<y>", "<z>"]] and items.reference_count is None
    assert metric("bleu", references=items.reference_count).signature.startswith("nrefs:var|")


def test_messages_are_asked_as_they_are() -> None:
    talk = [asked("Be short.", "system"), asked("Hi"), asked("Hello", "assistant"), asked("Bye")]
    rows = [{"prompt": talk, "answer": "Bye!"}, {"prompt": [asked("One?")], "answer": "1"}]
    items = made(rows)
    row = items.sources.index("Bye")
    assert items.request(row, seed=3) == Request(messages=tuple(talk), seed=3)
    assert items.prompts[row] == "system: Be short.\n\nuser: Hi\n\nassistant: Hello\n\nuser: Bye"
    assert (items.prompts[1 - row], items.sources[1 - row]) == ("One?", "One?")
    assert again(items) == items and len(set(items.ids)) == 2


def test_options_to_choose_from_and_the_place_of_the_right_one() -> None:
    cities = ["Rome", "Bern", "Wien"]
    rows = [{"prompt": "Italy", "options": cities, "answer": 0}]
    by_place, by_text = (
        made(rows, options="options"),
        made([rows[0] | {"answer": "Rome"}], options="options"),
    )
    assert by_place == by_text and by_place.completions == ["Rome"]
    assert by_place.options == [cities] and again(by_place) == by_place
    outputs = [list(zip(by_place.options[0], [-3.0, -2.0, -4.0], strict=True))]
    np.testing.assert_array_equal(metric("acc").statistics(outputs, by_place.references), [[0, 1]])


def test_rows_that_come_out_the_same_are_kept_once() -> None:
    rows = [{"prompt": "a", "answer": ["x", "y"]}] * 2 + [{"prompt": "a", "answer": ["x"]}]
    assert len(made(rows)) == 2


@pytest.mark.parametrize(
    ("row", "more", "told"),
    [
        ({"answer": None}, {}, 'the table, row 1: column "answer" is null — fill'),
        ({"answer": " "}, {}, "the table, row 1: the completion is empty — fill"),
        ({"answer": ["a", " "]}, {}, "the table, row 1: the completion is empty"),
        ({"answer": ["a", None]}, {}, 'the table, row 1: column "answer" is an empty list, or holds a null'),
        ({"answer": []}, {}, 'the table, row 1: column "answer" is an empty list'),
        ({"prompt": [asked("a", "robot")]}, {}, "the table, row 1, column \"prompt\": message 1 has the role 'robot' — known: system"),
        ({"prompt": [asked("a"), asked("b", "assistant")]}, {}, 'the table, row 1, column "prompt": the last message is the assistant\'s — give'),
        ({"prompt": [{"role": "user", "content": None}]}, {}, 'the table, row 1, column "prompt": message 1 has no text'),
        ({"o": ["a"]}, {"options": "o"}, 'the table, row 1: column "o" has fewer than two options'),
        ({"o": "ab"}, {"options": "o"}, 'the column "o" holds no lists — give a list'),
        ({"o": ["x", "y"]}, {"options": "o"}, "the table, row 1: 'a' is none of the 2 options"),
        ({"o": ["x", "y"], "answer": 2}, {"options": "o"}, "the table, row 1: option 2 is right, of 2 counted from 0"),
        ({}, {"options": "p"}, 'there is no column "p"'),
        ({"answer": ["a"], "b": ["c"]}, {"completion": "{answer}{b}"}, "{answer}{b}: the columns answer and b hold lists — use one"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_items(row: dict[str, Any], more: dict[str, Any], told: str) -> None:
    with pytest.raises(PomonaError) as caught:
        made([{"prompt": "p", "answer": "a"} | row], **more)
    assert str(caught.value).startswith(told)


def test_messages_are_a_whole_prompt() -> None:
    table = pa.Table.from_pylist([{"talk": [asked("a")], "answer": "b"}])
    with pytest.raises(
        PomonaError, match=r'^Ask: \{talk\}: the column "talk" holds messages — make'
    ):
        items_from(table, "Ask: {talk}", "{answer}", None)
