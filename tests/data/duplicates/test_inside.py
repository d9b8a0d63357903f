"""What of a benchmark is inside of documents, against plain Python."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from pomona.data import dedup
from pomona.errors import PomonaError

ITEM = "Which of the two towns on the lake had a bridge before the railway came to the valley?"
COUNTED = "one two three four five six seven eight nine ten eleven twelve thirteen"
ROWS = [
    "From a quiz: «which of the two TOWNS on the lake — had a bridge before the railway came»! Yes.",
    "Two towns on the lake had a bridge before the railway came.",
    "x",
    "Les deux villes " * 20
    + "one two three four five six seven eight nine ten eleven twelve thirteen",
]
ITEMS = [ITEM, "Too short to be found", f"zero {COUNTED} fourteen fifteen sixteen"]


def found(
    rows: list[str], items: list[str], folder: Path, **options: Any
) -> tuple[Any, list[Any], list[str]]:
    out = folder / "out.parquet"
    tables = [
        pa.table({"text": pa.array(one, pa.string()), "id": [f"i{at}" for at in range(len(one))]})
        for one in (rows, items)
    ]
    card = dedup(tables[0], out, against=tables[1], inside=True, **options)
    return (
        card,
        pq.read_table(f"{out}.pairs.parquet").to_pylist(),
        pq.read_table(out)["text"].to_pylist(),
    )


def test_rows_that_hold_an_item_go_and_say_which(tmp_path: Path) -> None:
    card, pairs, left = found(ROWS, ITEMS, tmp_path, shingle_size=13)
    assert left == ROWS[1:3]
    assert pairs == [
        {"removed": 0, "removed_id": "i0", "item": 0, "item_id": "i0", "runs": 3, "share": 0.5},
        {"removed": 3, "removed_id": "i3", "item": 2, "item_id": "i2", "runs": 1, "share": 0.2},
    ]  # fmt: skip
    assert card.removed == {"holds an item": 2}
    names = ("items", "items_found", "items_too_short")
    assert [card.details[name] for name in names] == [3, 2, 1]
    assert card.signature.startswith(
        "dedup|method:inside|column:text|shingle:auto|shingle_size:13|"
    )
    assert found(ROWS, ITEMS, tmp_path, threshold=0.3, shingle_size=13)[2] == ROWS[1:]
    assert found(ROWS, ITEMS, tmp_path, threshold=0.6, shingle_size=13)[2] == ROWS
    assert found(ROWS, ITEMS, tmp_path, shingle_size=5)[2] == ROWS[2:3]
    chinese = ["我们昨天在湖边的小镇上散步，看见一座很老的桥。", "我们今天在家。"]
    assert found(chinese, ["在湖边的小镇上散步、看见一座很老的桥"], tmp_path)[2] == chinese[1:]


def words(text: str) -> list[str]:
    bare = "".join(
        " " if unicodedata.category(c)[0] in "PS" else c for c in unicodedata.normalize("NFC", text)
    )
    return re.sub(r"\s+", " ", bare.lower()).strip().split(" ") if bare.strip() else []


def runs(text: str, size: int) -> set[tuple[str, ...]]:
    cut = words(text)
    return {tuple(cut[at : at + size]) for at in range(len(cut) - size + 1)}


_TEXT = st.lists(
    st.sampled_from(["a", "b", "B!", "(c)", "é", "e\u0301", "d-a", "…"]), max_size=12
).map(" ".join)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(_TEXT, min_size=1, max_size=6),
    st.lists(_TEXT, max_size=4),
    st.sampled_from([None, 0.5, 1.0]),
)
def test_plain_python_finds_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[str],
    items: list[str],
    threshold: float | None,
) -> None:
    items = [*items, "a b c d a b"]
    held = [
        {
            (row, at)
            for at, item in enumerate(items)
            if (of := runs(item, 3))
            and len(of & runs(text, 3)) >= max(1, (threshold or 0) * len(of))
        }
        for row, text in enumerate(rows)
    ]
    folder = tmp_path_factory.mktemp("inside")
    _, pairs, left = found(rows, items, folder, shingle="word", shingle_size=3, threshold=threshold)
    assert left == [text for text, some in zip(rows, held, strict=True) if not some]
    assert {(pair["removed"], pair["item"]) for pair in pairs} == set().union(*held)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"against": None}, "inside: means nothing without against — give against: the benchmark"),
        ({"keep": "none"}, "inside has no option keep: rows are not compared with each other"),
        ({"index": "i"}, "inside has no option index"),
        ({"method": "exact"}, "inside does not go with exact"),
        ({"shingle_size": 90}, "no item has 90 words — set a smaller shingle size"),
        ({"against": pa.table({"text": ["x"]})[:0]}, "there are no items — give a table with rows"),
        ({"threshold": 0.0}, r"threshold: 0\.0 is not above 0"),
        ({"against_column": "question"}, 'there is no column "question"'),
        ({"inside": False, "against_column": "text"}, "against_column: goes with inside"),
        ({"inside": False, "strike": True}, "strike: goes with inside — add --inside"),
        ({"column": "{text}", "strike": True}, 'pieces of "{text}" cannot stand in its place'),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    given = {"against": pa.table({"text": ITEMS}), "inside": True} | options
    with pytest.raises(PomonaError, match=told):
        dedup(pa.table({"text": ROWS}), tmp_path / "out.parquet", **given)
    assert not [one for one in tmp_path.iterdir() if not one.name.startswith(".")]


def test_items_may_be_called_otherwise(tmp_path: Path) -> None:
    items = pa.table({"question": ITEMS})
    out = tmp_path / "out.jsonl"
    card = dedup(
        pa.table({"text": ROWS}), out, against=items, inside=True, against_column="question",
        shingle_size=13,
    )  # fmt: skip
    assert card.rows_out == 2 and "against_column:question" in card.signature


def numbered(first: int, count: int) -> str:
    return " ".join(f"w{at}" for at in range(first, first + count))


@pytest.mark.parametrize(
    ("lengths", "size"),
    [
        ([20] * 30, 13),
        ([3] + [20] * 30, 13),
        ([9] * 30, 9),
        ([5] * 30 + [20], 8),
        ([11, 12, 40], 11),
    ],
)
def test_runs_are_as_long_as_items_are_but_for_few(
    tmp_path: Path, lengths: list[int], size: int
) -> None:
    items = [numbered(100 * at, count) for at, count in enumerate(lengths)]
    items += ["我们昨天在湖边的小镇上散步看见一座很老的桥"]
    card, pairs, _ = found([f"Well: {items[-2].upper()}!"], items, tmp_path)
    assert card.parameters["shingle_size"] == size
    card, _, _ = found(["nothing"], items, tmp_path, shingle="character")
    assert card.parameters["shingle_size"] == 13
    assert [pair["item"] for pair in pairs] == [len(lengths) - 1] * (lengths[-1] >= size)


def plainly(text: str, items: list[str], size: int) -> list[str]:
    """The pieces of a text, character by character."""
    banned = set().union(*(runs(item, size) for item in items))
    found = [*re.finditer(r"\w+", text)]
    names = [word[0].lower() for word in found]
    away = np.zeros(len(text), bool)
    for at in range(len(names) - size + 1):
        if tuple(names[at : at + size]) in banned:
            away[max(0, found[at].start() - 200) : found[at + size - 1].end() + 200] = True
    if not away.any():
        return [text]
    pieces = re.findall(
        r"[^\0]+", "".join("\0" if gone else c for c, gone in zip(text, away, strict=True))
    )
    return [one for one in pieces if len(one) >= 200] if len(pieces) <= 10 else []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 120), st.booleans()), max_size=14), st.booleans())
def test_what_is_struck_is_what_plain_python_strikes(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[int, bool]], dry_run: bool
) -> None:
    item = numbered(0, 9)
    text = "".join(f"{'é… ' * count}{item.title() + '! ' if held else ''}" for count, held in parts)
    rows, folder = [text, "nothing", f"x {text} y"], tmp_path_factory.mktemp("strike")
    card, _, left = found(rows, [item], folder, strike=True)
    wanted = [plainly(row, [item], 9) for row in rows]
    assert left == [piece for pieces in wanted for piece in pieces]
    assert card.rows_out == len(left) and card.parameters["strike"]
    cut = [len(pieces) for row, pieces in zip(rows, wanted, strict=True) if pieces != [row]]
    assert card.removed["holds an item"] == cut.count(0)
    assert card.details["pieces"] == sum(cut)


def test_a_card_of_what_is_struck_counts_cut_rows_alone_and_says_that_ids_repeat(
    tmp_path: Path,
) -> None:
    around = "pear " * 90
    rows = [f"{around}{ITEM} {around}", ITEM, "clean", f"{ITEM} {around}"]
    card, _, left = found(rows, [ITEM], tmp_path, strike=True)
    assert (card.removed["holds an item"], card.details["rows_cut"], len(left)) == (1, 2, 4)
    lost = sum(map(len, rows)) - len(ITEM) - sum(map(len, left))
    assert card.details["characters_cut"] == lost
    assert card.notes == ('the pieces of 1 row repeat the "id" of their row',)
    assert found(rows[1:], [ITEM], tmp_path, strike=True)[0].notes == ()


def test_characters_are_struck_where_scripts_have_no_spaces(tmp_path: Path) -> None:
    around = "今天天气很好大家都出去玩了" * 40
    item = "在湖边的小镇上散步、看见一座很老的桥"
    rows = [f"{around}{item.replace('、', '，')}{around}", around]
    _, pairs, left = found(rows, [item], tmp_path, strike=True)
    assert pairs[0]["removed"] == 0
    assert left == [around[:-200], around[200:], around]
