"""Lines and paragraphs that are there twice, against plain Python."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from pomona.data import dedup
from pomona.data.duplicates.substring import dedup_substring
from pomona.data.duplicates.substring_cut import CutRows, Tally
from pomona.data.duplicates.substring_texts import ColumnTexts
from pomona.data.duplicates.whole_parts import RepeatedParts
from pomona.data.inputs import unheard
from pomona.errors import PomonaError
from pomona.records import Records, as_records

TEXTS = [
    "Home\nAbout us\n\nThe first page says this.\nAnd that.\n\nAll rights reserved, of course.\n",
    "Home\r\nAbout us\n\nThe second page says more.\n\n\nAll rights reserved, of course.",
    "  Home  \nÜber uns\n\nAnd that.",
    "",
]


def cut(texts: list[str], folder: Path, **options: Any) -> tuple[list[str], list[Any], Any]:
    out = folder / "out.parquet"
    card = dedup(
        pa.table({"text": pa.array(texts, pa.string())}), out, method="substring", **options
    )
    return (
        pq.read_table(out)["text"].to_pylist(),
        pq.read_table(f"{out}.spans.parquet").to_pylist(),
        card,
    )


def test_lines_and_paragraphs_are_struck_as_wholes(tmp_path: Path) -> None:
    lines, spans, card = cut(TEXTS, tmp_path, unit="line")
    assert lines == [
        "\nThe first page says this.\n\n", "\nThe second page says more.\n\n\n", "Über uns\n\n", "",
    ]  # fmt: skip
    assert spans[0] == {"row": 0, "start": 0, "end": 5, "reason": "occurs more than once"}
    assert (len(spans), card.details["struck_spans"], card.details["units"]) == (9, 9, 12)
    paragraphs, spans, card = cut(TEXTS, tmp_path, unit="paragraph")
    assert paragraphs == [
        "Home\nAbout us\n\nThe first page says this.\nAnd that.\n\n",
        "Home\r\nAbout us\n\nThe second page says more.\n\n\n", *TEXTS[2:],
    ]  # fmt: skip
    assert (
        card.signature
        == "dedup_substring|column:text|unit:paragraph|min_length:1|keep:none|empty:keep|version:0.1.0"
    )
    assert cut(TEXTS, tmp_path, unit="line", min_length=2)[0][0].startswith("Home\n\nThe first")
    first, spans, _ = cut(TEXTS, tmp_path, unit="line", keep="first")
    assert first[0] == TEXTS[0] and {span["reason"] for span in spans} == {"occurs earlier"}
    left, _, card = cut(["a b\n", "a b", "c"], tmp_path, unit="line", empty="drop")
    assert left == ["c"] and card.removed == {"nothing left": 2}


def plain(texts: list[str], unit: str, keep: str, least: int) -> list[str]:
    pattern = (
        r"[^\n]*\n|[^\n]+"
        if unit == "line"
        else r"(?:[^\n]*\S[^\n]*(?:\n|$))+(?:[ \t]*(?:\n|$))*|[^\n]*\n|[^\n]+"
    )
    parts = [re.findall(pattern, text) for text in texts]
    assert ["".join(some) for some in parts] == texts
    counted = Counter(part.strip() for some in parts for part in some)
    seen: Counter[str] = Counter()
    left = []
    for some in parts:
        kept = ""
        for part in some:
            key = part.strip()
            repeated = counted[key] > 1 if keep == "none" else seen[key] > 0
            seen[key] += 1
            kept += "" if repeated and len(key.split()) >= least else part
        left.append(kept)
    return left


_TEXT = st.text(st.sampled_from("ab \n\né"), max_size=14)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(_TEXT, min_size=1, max_size=5),
    st.sampled_from(["line", "paragraph"]),
    st.sampled_from(["none", "first"]),
    st.integers(1, 2),
    st.sampled_from([1, 96, 1 << 20]),
)
def test_plain_python_leaves_the_same(
    texts: list[str], unit: str, keep: Any, least: int, memory: int
) -> None:
    column = ColumnTexts(as_records(pa.table({"text": texts})), "text")
    with tempfile.TemporaryDirectory() as folder:
        found = RepeatedParts(column, unit, least, keep, Path(folder))
        found.find(memory, unheard)
        rows = Records.of(CutRows(column, found, False, Tally()))
        assert rows.to_table()["text"].to_pylist() == plain(texts, unit, keep, least)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"unit": "lines"}, 'unit: "lines" is unknown — did you mean "line"?'),
        ({"unit": "line", "engine": "ray"}, "engine: does not go with unit line — leave it out"),
        ({"unit": "line", "min_length": 0}, "0 units are no repeat"),
        ({"unit": "line", "tokenizer": "t"}, "unit line uses no tokenizer"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(PomonaError) as caught:
        cut(TEXTS, tmp_path, **options)
    assert told in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("keep", ["none", "first"])
def test_a_killed_run_goes_on_after_the_last_pass(tmp_path: Path, keep: Any) -> None:
    path = tmp_path / "in.jsonl"
    lines = [[f"line {n * k % 701}" for n in range(40)] for k in range(1, 60)]
    path.write_text("".join(json.dumps({"text": "\n".join(some)}) + "\n" for some in lines))

    def struck(name: str, progress: Any) -> Any:
        options: Any = {"unit": "line", "keep": keep, "memory": "64KiB", "progress": progress}
        return dedup_substring(path, tmp_path / name, **options)

    whole = list[tuple[int, int]]()
    card = struck("whole.jsonl", lambda done, total: whole.append((done, total)))
    assert len(whole) > 4
    for stop in (1, 3):
        child = os.fork()
        if child == 0:
            struck("o.jsonl", lambda done, _, stop=stop: os._exit(9) if done == stop else None)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert not (tmp_path / "o.jsonl").exists()
    heard = list[tuple[int, int]]()
    again = struck("o.jsonl", lambda done, total: heard.append((done, total)))
    assert heard == whole[3:] and again.details == card.details
    for end in ("", ".spans.parquet"):
        assert (tmp_path / f"o.jsonl{end}").read_bytes() == (
            tmp_path / f"whole.jsonl{end}"
        ).read_bytes()
    left = {one.name for one in tmp_path.iterdir()}
    assert not [name for name in left if "work" in name]
