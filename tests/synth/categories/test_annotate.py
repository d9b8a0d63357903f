from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pomona.answers.categories import Definitions
from pomona.cli import main
from pomona.data.audit import sample_audit
from pomona.data.audit.labels import set_label
from pomona.errors import PomonaError
from pomona.records import read, write
from pomona.synth.categories import Annotated, annotate

QUESTIONS = Definitions.model_validate(
    {
        "name": "kind",
        "otherwise": "other",
        "categories": {
            "question": {"rules": [{"regex": r"\?$"}]},
            "order": {"rules": [{"keywords": ["go"]}]},
        },
    }
)
FILE = """name: kind
otherwise: other
categories:
  question: {definition: asks, rules: [{regex: '\\?$'}]}
  order: {definition: tells what to do, rules: [{keywords: [go]}]}
"""


def table(n: int = 60) -> pa.Table:
    """Texts of three kinds in turn; people call every fourth row an order, and one nothing."""
    texts = [("Is it {}?", "Now go to {}", "Thing {}")[row % 3].format(row) for row in range(n)]
    kinds = [("question", "order", "other")[row % 3] for row in range(n)]
    people = [None if row == 5 else "order" if row % 4 == 0 else kinds[row] for row in range(n)]
    columns = {"id": list(map(str, range(n))), "text": texts, "people": people}
    return pa.table({**columns, "cluster": [str(row // 6) for row in range(n)]})


def annotated(*given: Any, **more: Any) -> Annotated:
    made = annotate(*given, **more)
    assert isinstance(made, Annotated)
    return made


def kappa(one: list[str], other: list[str]) -> float:
    """Cohen's kappa by its definition."""
    a, b = np.array(one), np.array(other)
    chance = sum((a == name).mean() * (b == name).mean() for name in set(one) | set(other))
    return float(((a == b).mean() - chance) / (1 - chance))


def test_agreement_with_people(tmp_path: Path) -> None:
    made = annotated(
        table(), tmp_path / "o.parquet", QUESTIONS, human="people", page=tmp_path / "p"
    )
    rows = read(tmp_path / "o.parquet").to_table().to_pylist()
    both = [(row["people"], row["kind"]) for row in rows if row["people"]]
    told = made.agreement
    assert told is not None and (told.labels, told.open, told.kappa.n) == (59, 0, 59)
    assert told.kappa.value == pytest.approx(kappa(*map(list, zip(*both, strict=True))))
    low, high = told.kappa.ci_low, told.kappa.ci_high
    assert low is not None and high is not None and low < (told.kappa.value or 0) < high
    assert told.names == ["question", "order", "other"]
    assert told.confusion == [
        [sum(pair == (a, b) for pair in both) for b in told.names] for a in told.names
    ]
    order = told.categories[1]
    assert order.kappa.value == pytest.approx(
        kappa([str(a == "order") for a, _ in both], [str(b == "order") for _, b in both])
    )
    assert made.counts == {"question": 20, "order": 20, "other": 20}
    page = (tmp_path / "p/index.html").read_text()
    assert made.headline() in page and "What people say" in page


def test_clusters_are_drawn_whole(tmp_path: Path) -> None:
    def width(**more: Any) -> float:
        told = annotated(table(), tmp_path / "o.csv", QUESTIONS, human="people", **more).agreement
        assert told is not None and told.kappa.ci_low is not None
        return (told.kappa.ci_high or 0) - told.kappa.ci_low

    # In each cluster people differ in the same share of rows, so whole clusters vary less.
    assert width(cluster="cluster") < width()
    made = annotated(table(), tmp_path / "o.csv", QUESTIONS, human="people", cluster="cluster")
    assert "|ci:clustered|" in made.signature


def test_four_rows_do_not_say_how_sure_it_is(tmp_path: Path) -> None:
    told = annotated(table(4), tmp_path / "o.parquet", QUESTIONS, human="people").agreement
    assert told is not None and told.kappa.n == 4
    assert (told.kappa.ci_low, told.kappa.reason) == (None, "too few to say how sure it is")


def test_an_audit_says_what_people_said(tmp_path: Path) -> None:
    """Rows are found by text and group, though a spreadsheet has been at the file; what nobody
    labelled is no label.
    """
    texts = ["=1 Is it?", "OK", "OK", "go  on\tto " + "x" * 2100, "Thing"]
    rows = pa.table({"lang": ["af", "de", "nl", "nl", "nl"], "text": texts})
    sample_audit(rows, tmp_path / "audit", n=9)
    said = {"=1 Is it?": "CS", "OK": "CB", "Thing": "NL"}
    told = read(tmp_path / "audit/labels.csv").to_table().to_pylist()
    for row in told:
        start = row["text"].lstrip("'")
        label = "WL" if start.startswith("go") else said[start]
        if row["lang"] != "de":
            set_label(tmp_path / "audit", int(row["number"]), label, False, False)
    codes = Definitions.model_validate(
        {
            "name": "code",
            "categories": {
                "CS": {"rules": [{"regex": r"\?$"}]},
                "WL": {"rules": [{"characters": [99, None]}]},
                "NL": {"rules": [{"keywords": ["thing"]}]},
                "CB": {"rules": [{"where": {"lang": ["nl"]}}]},
            },
        }
    )
    labels = tmp_path / "audit/labels.csv"
    made = annotated(rows, tmp_path / "o.csv", codes, labels=labels, human="label")
    assert made.agreement is not None
    assert (made.agreement.labels, made.agreement.agree.value) == (4, 1.0)
    assert made.agreement.kappa.value == 1 and made.agreement.unmatched == 0
    assert made.errors == {"no rule fits": 1}


def test_several_categories_beside_people(tmp_path: Path) -> None:
    several = QUESTIONS.model_copy(update={"several": True, "otherwise": None})
    rows = pa.table({"text": ["go?", "go", "Thing", "Is?"] * 5})
    people = ["question; order", "order", "none", '["question", "order"]'] * 5
    rows = rows.append_column("people", pa.array(people))
    made = annotated(rows, tmp_path / "o.csv", several, human="people")
    told = made.agreement
    assert told is not None and told.confusion is None
    assert told.agree.value == pytest.approx(7 / 8)  # of rows and categories
    assert told.categories[0].kappa.value == 1 and told.categories[1].both == 10
    ours = [a in kind for kind in ("qo", "o", "", "q") for a in "qo"]
    theirs = [a in kind for kind in ("qo", "o", "", "qo") for a in "qo"]
    assert told.kappa.value == pytest.approx(kappa(list(map(str, ours)), list(map(str, theirs))))
    assert made.counts == {"question": 10, "order": 10, "none": 5}


def test_the_command_line(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d.yaml").write_text(FILE)
    write(table(), "in.csv")
    line = [
        "synth",
        "annotate",
        "in.csv",
        "--definitions",
        "d.yaml",
        "--out",
        "o.csv",
        "--human",
        "people",
    ]
    assert main([*line, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pomona_categories"], told["rows"], told["open"]) == (1, 60, 0)
    assert told["agreement"]["kappa"]["ci_low"] < told["agreement"]["kappa"]["value"]
    assert told["signature"].startswith("synth annotate|categories:kind|")
    assert main([*line, "--page", "p"]) == 0
    said = capsys.readouterr().out
    assert "κ 0." in said and "by people" in said and "p/index.html" in said
    assert main(["synth", "annotate", "in.csv", "--definitions", "d.yaml", "--out", "d.yaml"]) == 2
    assert "is an input" in capsys.readouterr().err


def test_what_cannot_work_is_refused(tmp_path: Path, fake: Any) -> None:
    other = pa.table({"text": ["nowhere"], "label": ["x"]})
    wrong = {
        'there is no column "kinds"': {"human": "kinds"},
        'column "nothing" has no labels': {"human": "nothing"},
        "labels: which column says what people said?": {"labels": other},
        "of its 1 label none is of a row": {"labels": other, "human": "label"},
        'there is no column "id"': {"labels": other, "human": "label", "id": "id"},
        "id: joins --labels, which is not given": {"id": "id"},
        "10 resamples are too few": {"resamples": 10},
    }
    rows = table(6).append_column("nothing", pa.nulls(6, pa.string()))
    model = fake()
    for text, more in wrong.items():
        with pytest.raises(PomonaError) as caught:
            annotate(rows, tmp_path / "o.csv", QUESTIONS, model=model, **more)
        assert text in str(caught.value)
    assert model.made == [] and not (tmp_path / "o.csv").exists()
