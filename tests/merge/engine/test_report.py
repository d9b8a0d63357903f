from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pomona.merge import merge
from pomona.merge.report import survey

from .conftest import llama


def floats(stored: np.ndarray) -> np.ndarray:
    return (stored.ravel().astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def vectors(seed: int, layer: str, based: bool = True) -> np.ndarray:
    base, model = llama(0), llama(seed)
    return np.concatenate(
        [
            floats(model[n][1]) - (floats(base[n][1]) if based else 0)
            for n in model
            if survey.layer_of(n) == layer
        ]
    )


@pytest.mark.parametrize("layer", ["model.layers.1", "model.embed_tokens", "model.norm"])
def test_norms_cosines_and_conflicts_are_those_of_numpy(
    recipe: dict[str, Any], tmp_path: Path, layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey, "PART", 1)
    result = merge(recipe, tmp_path / "out")
    row = next(row for row in result.layers if row["layer"] == layer)
    one, two = vectors(1, layer), vectors(2, layer)
    base = np.concatenate(
        [floats(values) for name, (_, values) in llama(0).items() if survey.layer_of(name) == layer]
    )
    names = [model["model"] for model in recipe["models"]]
    assert list(row["norms"]) == names
    assert row["elements"] == row["measured"] == len(one)
    assert [row["norms"][name] for name in names] == pytest.approx(
        [np.linalg.norm(one), np.linalg.norm(two)], rel=1e-5
    )
    assert row["relative"][names[0]] == pytest.approx(
        np.linalg.norm(one) / np.linalg.norm(base), rel=1e-5
    )
    assert row["cosines"][" × ".join(names)] == pytest.approx(
        one @ two / np.linalg.norm(one) / np.linalg.norm(two), abs=1e-5
    )
    assert row["conflicts"] == pytest.approx(float((one * two < 0).mean()))
    assert row["error"] == 0
    written = json.loads((tmp_path / "out" / "pomona_merge.json").read_text())["report"]
    assert (written["of"], written["measured"]) == ("task vectors", 1.0)
    assert next(one for one in written["layers"] if one["layer"] == layer) == row


def test_a_part_is_near_the_whole_and_says_how_near(recipe: dict[str, Any], tmp_path: Path) -> None:
    row = next(
        row
        for row in merge(recipe, tmp_path / "out").layers
        if row["layer"] == "model.embed_tokens"
    )
    one, two = vectors(1, "model.embed_tokens"), vectors(2, "model.embed_tokens")
    assert row["measured"] < row["elements"] == len(one)
    assert row["norms"][recipe["models"][0]["model"]] == pytest.approx(
        np.linalg.norm(one), rel=0.02
    )
    assert row["conflicts"] == pytest.approx(float((one * two < 0).mean()), abs=0.02)


def test_without_a_base_weights_are_compared(make: Callable[..., Path], tmp_path: Path) -> None:
    models = [
        {"model": str(make(name, seed)), "parameters": {"weight": 1}}
        for name, seed in (("one", 1), ("two", 2))
    ]
    result = merge({"merge_method": "linear", "models": models}, tmp_path / "out")
    row = result.layers[1]
    assert row["relative"] == {}
    assert next(iter(row["cosines"].values())) > 0.9
    assert "Cosine between weights" in (tmp_path / "out" / "report.html").read_text()


def test_no_report_is_made_where_none_is_wanted_or_there_is_nothing_to_measure(
    make: Callable[..., Path], recipe: dict[str, Any], tmp_path: Path
) -> None:
    assert merge(recipe, tmp_path / "out", report=False).layers == ()
    alone = {"merge_method": "passthrough", "models": [{"model": str(make("alone", 1))}]}
    assert merge(alone, tmp_path / "copy").methods == {"copy": 20}
    for name in ("out", "copy"):
        assert not (tmp_path / name / "report.html").exists()
        assert "report" not in json.loads((tmp_path / name / "pomona_merge.json").read_text())


class Page(HTMLParser):
    """Counts cells and looks for parts from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [
            value
            for name, value in attrs
            if name in ("src", "href") and value and not value.startswith("data:")
        ]


def test_the_page_is_one_file_with_a_cell_for_every_layer(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    merge(recipe, tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    page = Page()
    page.feed(text)
    assert page.outside == []
    assert page.tags.count("script") == 3  # the charts, Vega, and the lines that call it
    assert "default-src 'none'; script-src 'sha256-" in text
    assert page.tags.count("table") == 1
    drawn = text.partition('<script type="application/json" id="charts">')[2]
    charts = json.loads(drawn.partition("</script>")[0])["charts"]
    cells = [chart["data"]["values"] for chart in charts.values()]
    assert [sum(one["layer"] == "model.layers.1" for one in each) for each in cells] == [2, 1, 1]
    assert "The 2 models pull in opposite directions on" in text
    assert "prefers-color-scheme: dark" in text
