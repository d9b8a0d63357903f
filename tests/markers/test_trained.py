"""What a model was trained with: the file, and what stands for "auto"."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.markers import (
    Taxonomy,
    Trained,
    list_of,
    read_taxonomy,
    read_trained,
    split_list,
    trained_of,
    write_trained,
)

OWN = Taxonomy.model_validate(
    {
        "markers": {
            "quality": {"kind": "float"},
            "quality_bucket": {
                "kind": "buckets", "of": "quality", "within": "lang", "values": ["1", "2", "3"],
            },
            "quality_edges": {
                "kind": "buckets", "of": "quality", "edges": [0, 1], "values": ["low", "mid", "high"],
            },
            "words": {"kind": "integer"},
            "lang": {"kind": "text"},
        }
    }
)  # fmt: skip
TRAINED = Trained(
    OWN, "compact", {"quality": {"": 0.5, "de": 2.0}, "quality_bucket": {"": "1"}}, "lang"
)


def test_auto_is_the_95th_percentile_within_a_language() -> None:
    values = np.random.default_rng(0).normal(size=400)
    langs = ["de"] * 300 + ["fi"] * 97 + [None] * 3
    edges = ["low" if one < 0 else "mid" if one < 1 else "high" for one in values]
    # Of the two of three values in the worst bucket, 95 of 100 rows are no better.
    buckets = ["3"] * 297 + ["1"] * 3 + ["2"] * 50 + ["1"] * 47 + [None] * 3
    table = pa.table(
        {"marker_quality": values, "marker_quality_bucket": buckets, "marker_quality_edges": edges,
         "marker_words": pa.nulls(400, pa.int64()), "marker_lang": langs}
    )  # fmt: skip
    told = trained_of(table, OWN, "verbose")
    assert told.by == "lang"
    assert set(told.auto) == {"quality", "quality_bucket", "quality_edges"}
    for group, rows in {"": values, "de": values[:300], "fi": values[300:397]}.items():
        assert told.auto["quality"][group] == np.quantile(rows, 0.95)
    assert told.auto["quality_bucket"] == {"": "1", "de": "3", "fi": "1"}
    assert told.auto["quality_edges"]["de"] == "high"
    asked = told.values({"lang": "fi", "quality_bucket": "auto", "quality": "auto"})
    fi = told.auto["quality"]["fi"]
    assert asked == {"quality": fi, "quality_bucket": "1", "lang": "fi"}
    assert list(asked) == ["quality", "quality_bucket", "lang"]  # in the order of lists
    for other in ({}, {"lang": "sv"}):  # of all rows, where the group is not known
        assert told.values({"quality": "auto", **other})["quality"] == told.auto["quality"][""]


def test_nothing_is_auto_where_no_quality_is_known() -> None:
    paper = read_taxonomy()
    none = pa.table({f"marker_{name}": pa.nulls(3, pa.string()) for name in paper.markers})
    told = trained_of(none, paper, "compact")
    assert (told.auto, told.by) == ({}, None)
    with pytest.raises(PomonaError, match='"quality" has no "auto" — give a value: no marker'):
        told.values({"quality": "auto"})
    with pytest.raises(PomonaError, match='"lang" has no "auto" — give a value: only quality'):
        TRAINED.values({"lang": "auto"})
    with pytest.raises(PomonaError, match='did you mean "quality"'):
        TRAINED.values({"qualty": "auto"})


def test_the_file_comes_back_and_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = write_trained(tmp_path, TRAINED)
    assert read_trained(tmp_path) == read_trained(path) == TRAINED
    told = json.loads(path.read_text())
    swapped = dict(reversed(told["taxonomy"]["markers"].items()))
    damages: dict[str, Any] = {
        "its taxonomy was changed": told | {"taxonomy": {"markers": swapped}},
        'unknown key "forms"': told | {"forms": "compact"},
        '"form" must be': told | {"form": "short"},
        '"format" must be': told | {"format": 3},
        '"digest" is missing': {key: one for key, one in told.items() if key != "digest"},
        '"auto" of "quality" lacks': told | {"auto": {"quality": {}}},
        '"auto" of "quality_bucket" is': told | {"auto": {"quality_bucket": {"": "9"}}},
        '"auto" has "quali", which stands in no list': told | {"auto": {"quali": {"": 1}}},
        '"by" is "lan"': told | {"by": "lan"},
        "is not JSON": None,
    }
    for said, damaged in damages.items():
        path.write_text(path.read_text()[:99] if damaged is None else json.dumps(damaged))
        with pytest.raises(PomonaError) as caught:
            read_trained(tmp_path)
        assert str(caught.value).startswith(f"{path}: ") and said in str(caught.value)
        assert "copy it again" in str(caught.value)


def test_a_checkpoint_of_before_keeps_its_form_of_lists(tmp_path: Path) -> None:
    path = write_trained(tmp_path, TRAINED)
    told = json.loads(path.read_text())
    path.write_text(json.dumps(told | {"format": 1}))
    before = read_trained(tmp_path)
    assert before == replace(TRAINED, form="compact1") != TRAINED
    assert before.document() == told | {"format": 1}
    values = {"quality": 2.5, "quality_bucket": "2", "lang": "de"}
    assert list_of(values, OWN, before.form) == "2.5;2_;de"
    assert split_list("2.5;2_;de|Hallo", before) == (values, "Hallo")
    assert split_list("2.5;2_;de|Hallo", TRAINED) is None


@pytest.mark.parametrize("model", ["ui-xs", "smollm2", "http://localhost/v1#x", "gguf:x.gguf", "."])
def test_a_model_without_markers_is_told_with_the_remedy(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PomonaError) as caught:
        read_trained(model)
    said = f"{model}: was not trained with markers — train on what `pomona markers apply` wrote"
    assert str(caught.value).startswith(said)


def test_apply_writes_it_beside_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own.yaml").write_text(json.dumps(OWN.model_dump(mode="json", exclude_defaults=True)))
    rows = [{"prompt": "a", "answer": f"{at}", "lang": "de", "score": at} for at in range(9)]
    Path("in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    line = (
        "in.jsonl --out t.parquet --taxonomy own.yaml --columns quality=score --columns lang=lang"
    )
    assert main(["markers", "tag", *line.split()]) == 0
    line = "t.parquet --out a.jsonl --taxonomy own.yaml --form compact"
    assert main(["markers", "apply", *line.split()]) == 0
    told = read_trained("a.jsonl.markers.json")
    assert (told.taxonomy, told.form, told.by) == (OWN, "compact", "lang")
    assert told.auto["quality"] == {"": 7.6, "de": 7.6}
    assert told.auto["quality_bucket"] == {"": "1", "de": "1"}
    assert told.auto["quality_edges"] == {"": "high", "de": "high"}
