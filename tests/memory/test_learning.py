"""The selector of a memory: learned from rows outside of it, kept as a file, and read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pomona.errors import PomonaError
from pomona.memory import FEATURES, MemorySelector, RowMemory, learn_selector, open_memory

WORDS = {"page": "Seite", "file": "Datei", "user": "Person", "group": "Gruppe"}
DOINGS = {"Save": "sichern", "Delete": "löschen", "Open": "öffnen"}
PAIRS = [(f"{do} {w}", f"{WORDS[w]} {DOINGS[do]}") for do in DOINGS for w in WORDS]


def table(pairs: list[tuple[str, str]], **more: Any) -> pa.Table:
    return pa.table({"source": [a for a, _ in pairs], "answer": [b for _, b in pairs], **more})


def opened(**more: Any) -> RowMemory:
    return open_memory(table(PAIRS[:8]), form="<|{source}|>", **more)


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("learned") / "selector.json"
    drawn = table(PAIRS[8:], drawn=[["nein", right] for _, right in PAIRS[8:]])
    learn_selector(drawn, out=out, memory=opened(), drawn="drawn")
    return out


def test_what_was_drawn_is_weighed_beside_what_is_put_together(learned: Path) -> None:
    found = MemorySelector.load(learned)
    assert found.draws and found.scored == 0 and found.learned["items"] == 4
    told = json.loads(learned.read_text(encoding="utf-8"))
    assert told["learned"]["seed"] == 0 and told["learned"]["metric"] == "chrf"
    memory = opened(selector=learned)
    assert memory.identity != opened().identity and str(learned) in memory.paths
    first = memory.shortlist_now("<|Open group|>", ["nein", "Gruppe öffnen"])
    assert first is not None and {"nein", "Gruppe öffnen", "Open group"} <= set(first.texts)
    scores = dict(zip(first.texts, memory.choose(first, None), strict=True))
    assert max(scores, key=scores.__getitem__) == "Gruppe öffnen"
    assert memory.shortlist_now("Open group", []) is None


def test_how_near_the_memory_is_counts_where_no_neighbour_is_a_candidate() -> None:
    counts = {"edited": 2, "composed": 2}
    texts, known, _ = opened().gathered("Open page", "", [], neighbours=0, **counts)
    _, beside, _ = opened().gathered("Open page", "", [], neighbours=1, **counts)
    of = FEATURES.index("source_near")
    assert known[texts.index("Open page"), of] == beside[:, of].max() > 0


def test_what_is_no_selector_is_named(learned: Path, tmp_path: Path) -> None:
    rows, out = table(PAIRS[8:]), tmp_path / "out.json"
    told = json.loads(learned.read_text(encoding="utf-8"))
    for change, said in (
        ({"form": "other"}, "is no selector of a memory — give a file that `pomona sample sel"),
        ({"shortlist": 0}, "has numbers that are none"),
        ({"selector": told["selector"] | {"names": told["selector"]["names"][::-1]}},
         "weighs other features than are known of candidates — learn it again"),
        ({"selector": 3}, "is no selector"),
    ):  # fmt: skip
        out.write_text(json.dumps(told | change), encoding="utf-8")
        with pytest.raises(PomonaError, match=said):
            open_memory(rows, selector=out)
    before = out.read_bytes()
    with pytest.raises(PomonaError, match="is no selector"):  # somebody else's file stays
        learn_selector(rows, out=out, memory=opened())
    assert out.read_bytes() == before
    for wrong, options, said in (
        (rows, {"memory": None}, "--memory-table: there is no memory — name the rows"),
        (table([("a", " ")]), {}, "row 1: a text is empty"),
        (rows, {"drawn": "answer"}, 'row 1: "answer" has no list of texts'),
        (rows.slice(0, 0), {}, "has no rows"),
        (rows, {"shortlist": 0}, "a shortlist of 0 — give neighbours from 0 and a shortlist from"),
    ):
        with pytest.raises(PomonaError, match=said):
            learn_selector(wrong, out=tmp_path / "new", **{"memory": opened(), **options})
    assert not (tmp_path / "new").exists()
