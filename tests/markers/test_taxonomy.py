"""Taxonomies: the paper's, changes to it, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from pomona.errors import PomonaError
from pomona.markers import read_taxonomy


def test_the_paper_has_thirteen_markers_which_a_file_changes(tmp_path: Path) -> None:
    paper = read_taxonomy()
    assert len(paper.markers) == 13
    assert len(paper.markers["task"].values) == 14
    own = tmp_path / "own.yaml"
    own.write_text(
        "extends: paper\nwithout: [style, source]\nmarkers:\n"
        "  lang: {kind: values, values: [de, no]}\n  project: {kind: text, column: domain}\n"
    )
    told = read_taxonomy(own)
    assert list(told.markers) == [*(one for one in paper.markers if one not in ("style", "source")),
                                  "project"]  # fmt: skip
    assert list(told.markers["lang"].values) == ["de", "no"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("markers: {}", "there are no markers"),
        ("markers:\n  a: {kind: number}", 'line 2: "kind" must be "float" or "integer"'),
        ("markers:\n  a:\n    kind: text\n    colum: x",
         'line 4: unknown key "colum" in markers.a — did you mean "column"?'),
        ("markers:\n  a: {kind: values, values: [x]}", "needs two values or more"),
        ("markers:\n  a: {kind: text}\n  b:\n    kind: buckets\n    of: c\n    values: [x, y]",
         'line 5: no marker "c" — known: a, b'),
        ("markers:\n  a: {kind: text}\n  b:\n    kind: buckets\n    of: a\n    values: [x, y]",
         '"a" is no number'),
        ("markers:\n  a: {kind: float}\n  b: {kind: buckets, of: a, edges: [2, 1], values: [x, y, z]}",
         '"edges" must grow'),
        ("markers:\n  a: {kind: text, measure: tokens}", '"tokens" is a number'),
        ("markers:\n  a_by: {kind: text}", '"a_by" is no name'),
        ("markers:\n  n: {kind: float}\n  x: {kind: buckets, of: n, within: y, values: [a, b]}\n"
         "  y: {kind: buckets, of: n, within: x, values: [a, b]}",
         'line 3: "x" is within itself, by way of "y"'),
        ("markers:\n  a: {kind: text}\n  b: {kind: values, values: [1, 2]}",
         'line 3: a value is a text: write "1", with the marks around it'),
        ("markers:\n  a: {kind: text}\n  b: {kind: values, values: [x, y, x]}",
         'line 3: "x" is there twice'),
        ("extends: paper\nwithout: [stile]", 'line 2: no marker "stile" to leave out — did you mean'),
        ("extends: paper\nwithout: [quality]", '"quality_bucket" needs "quality"'),
    ],
)  # fmt: skip
def test_a_mistake_has_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(PomonaError) as caught:
        read_taxonomy(path)
    assert said in str(caught.value)
    assert f"{path}, line" in str(caught.value)
