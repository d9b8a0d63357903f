"""A translator's memory: rows are added while the server runs, and the next request finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from pomona.memory import open_memory

FORM = "<|{group}|>{source}<|to|>"


def test_rows_are_added_used_and_deleted(upstream: Any, open_house: Any, tmp_path: Path) -> None:
    memory = open_memory(form=FORM, file=tmp_path / "rows.db", most=2)
    house = open_house({"fake": upstream.model()}, memory=memory, lookup=0.9)

    def asked(context: str, strategy: str = "hedged3-mbr", source: str = "Save page") -> Any:
        said = {
            "model": "fake",
            "prompt": f"<|de|>{source}<|to|>",
            "pomona": {"context": [context], "strategy": strategy},
        }
        return house.client.post("/v1/completions", json=said).json()

    row = {"source": "Save page", "answer": "Seite sichern", "group": "de"}
    assert asked("lookup")["choices"][0]["text"] == "answer 0"
    kept = house.client.post("/v1/memory", json=row).json()
    assert kept == {"object": "memory.row", "id": 1}
    upstream.seen.clear()
    found = asked("lookup")
    assert found["choices"][0]["text"] == "Seite sichern" and upstream.seen == []
    assert found["pomona"]["stopped_by"] == "lookup" and found["usage"]["completion_tokens"] == 0
    assert asked("examples", "greedy")["choices"][0]["text"] == "answer 0"
    assert upstream.seen[-1]["prompt"] == (
        "<|de|>Save page<|to|>\nSeite sichern\n\n<|de|>Save page<|to|>"
    )
    found = asked("neighbours")
    assert found["choices"][0]["text"] == "Seite sichern"
    assert [one["text"] for one in found["pomona"]["candidates"]][-1] == "Seite sichern"
    refused = asked("neighbours", "hedged3-vote")["error"]
    assert "neighbours are candidates of mbr alone" in refused["message"]
    found = asked("phrases", source="Save page 2")
    assert found["choices"][0]["text"] == "Seite sichern 2"
    assert found["pomona"]["stopped_by"] == "phrases"
    none = asked("selector")["error"]
    assert (none["code"], "--memory-selector FILE" in none["message"]) == ("no_selector", True)
    house.client.post("/v1/memory", json={**row, "source": "Log out"}).raise_for_status()
    full = house.client.post("/v1/memory", json=row)
    assert full.status_code == 400 and "2 rows, as many as are kept" in full.text
    gone = house.client.delete("/v1/memory/1").json()
    assert gone == {"object": "memory.row.deleted", "id": 1, "deleted": True}
    assert asked("lookup")["choices"][0]["text"] == "answer 0"
    assert house.client.delete("/v1/memory/1").status_code == 404


def test_what_is_no_row_is_refused(upstream: Any, open_house: Any, tmp_path: Path) -> None:
    table = pa.table({"source": ["Save"], "answer": ["Sichern"], "group": ["de"]})
    fixed = open_house({"fake": upstream.model()}, memory=open_memory(table, form=FORM))
    told = fixed.client.post("/v1/memory", json={"source": "a", "answer": "b"})
    assert told.status_code == 404 and "start it with --memory-file PATH" in told.text
    plain = open_house({"fake": upstream.model()})
    assert "there is no memory" not in plain.chat(pomona={"context": "lookup"}).text
    assert "keeps no memory of rows" in plain.chat(pomona={"context": "lookup"}).text
    memory = open_memory(form=FORM, file=tmp_path / "rows.db")
    house = open_house({"fake": upstream.model()}, memory=memory)
    for row, wrong in (
        ({"source": " ", "answer": "b", "group": "de"}, "source"),
        ({"source": "a", "answer": "b" * 10_001, "group": "de"}, "answer"),
        ({"source": "a", "answer": "b"}, "group"),
        ({"source": "a", "answer": "b", "group": "de", "more": 1}, "more"),
    ):
        response = house.client.post("/v1/memory", json=row)
        assert (response.status_code, response.json()["error"]["param"]) == (400, wrong)


def test_each_key_adds_rows_of_its_own(upstream: Any, open_house: Any, tmp_path: Path) -> None:
    table = pa.table({"source": ["Save"], "answer": ["Sichern"]})
    keys = tuple(letter * 20 for letter in "ab")
    memory = open_memory(table, file=tmp_path / "rows.db")
    house = open_house({"fake": upstream.model()}, keys=keys, memory=memory)
    first, second = ({"Authorization": f"Bearer {key}"} for key in keys)
    assert (
        house.client.post("/v1/memory", json={"source": "Go", "answer": "Los"}).status_code == 401
    )

    def looked_up(source: str, headers: dict[str, str]) -> str:
        said = {"model": "fake", "messages": [{"role": "user", "content": source}]}
        said |= {"pomona": {"context": "lookup"}}
        answer = house.client.post("/v1/chat/completions", json=said, headers=headers).json()
        return answer["choices"][0]["message"]["content"]

    row = {"source": "Log out", "answer": "Abmelden"}
    house.client.post("/v1/memory", json=row, headers=first).raise_for_status()
    assert [looked_up("Log out", key) for key in (first, second)] == ["Abmelden", "answer 0"]
    assert [looked_up("Save", key) for key in (first, second)] == ["Sichern", "Sichern"]
    assert house.client.delete("/v1/memory/1", headers=second).status_code == 404
    assert house.client.delete("/v1/memory/1", headers=first).status_code == 200
