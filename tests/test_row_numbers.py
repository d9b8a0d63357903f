"""Rows count from 1 in errors, each in its own file: what each command says of a damaged third row
in the second of two files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pomona import arena, forget, scale
from pomona.answers import answer_rows
from pomona.answers.categories import Definitions, label_rows
from pomona.arena.annotating.items import read_pairs as annotated
from pomona.arena.judging.pairs import read_pairs as judged
from pomona.arena.models import made_by
from pomona.arena.prioritizing.pairs import read_pairs as prioritized
from pomona.data import dedup, filter as filter_rows, mix, prune, score
from pomona.data.audit import prune_templates, sample_audit
from pomona.data.duplicates import dedup_semantic, dedup_substring
from pomona.errors import PomonaError
from pomona.forget.auditing.populations import read_populations
from pomona.forget.divergence.texts import Documents
from pomona.markers import tag
from pomona.memory import learn_selector, open_memory
from pomona.records import read, with_text
from pomona.sample.answering import StrategyAnswerer
from pomona.sample.context import Index, build_datastore
from pomona.sample.strategy import parse_strategy
from pomona.scale.curves.reading import scores_at
from pomona.scale.tables.columns import Columns, read_published
from pomona.synth.profile import TextColumns
from pomona.synth.profile.sides import read_side
from pomona.synth.routing import route
from pomona.tasks import items_from

Row = dict[str, Any]
Paths = list[str]
KINDS = {"name": "kind", "categories": {"a": {"rules": [{"between": {"n": [0, 3]}}]}, "b": {}}}
PAIR = {"model_a": "x", "model_b": "y", "completion_a": "one", "completion_b": "two"}
VOTE = {"model_a": "x", "model_b": "y", "winner": "model_a"}
ANSWER = {"id": "{n}", "prediction": "a", "reference": "a"}
RUN = {"params": "{n}e6", "tokens": "{n}e9", "loss": 3.0}


def answered(paths: Paths, out: Path) -> None:
    answer_rows(paths, out, StrategyAnswerer(parse_strategy("greedy")), model="fake:x")


def labelled(paths: Paths, out: Path) -> None:
    label_rows(read(paths), out, Definitions.model_validate(KINDS))


def learned(paths: Paths, out: Path) -> None:
    memory = open_memory(paths[0], source="text", answer="answer")
    learn_selector(paths, memory=memory, out=out)


def scored(paths: Paths, out: Path) -> None:
    score(paths, out, scores=["length"], models=[])


CASES: dict[str, tuple[Callable[[Paths, Path], Any], Row, Row]] = {
    "dedup exact": (lambda p, o: dedup(p, o, method="exact"), {}, {"text": None}),
    "dedup minhash": (lambda p, o: dedup(p, o, keep="best:s"), {"s": 1.0}, {"text": None}),
    "dedup semantic": (dedup_semantic, {}, {"text": None}),
    "dedup substring": (dedup_substring, {}, {"text": None}),
    "filter": (
        lambda p, o: filter_rows(p, o, where=["n > 0"], group="lang"),
        {"lang": "en"},
        {"lang": None},
    ),
    "prune": (lambda p, o: prune(p, o, by="s"), {"s": 1.0}, {"s": None}),
    "mix": (lambda p, o: mix({"a": p}, o, size="s"), {"s": 1}, {"s": -1}),
    "score": (scored, {"lang": "en"}, {"text": " "}),
    "audit sample": (sample_audit, {"lang": "en"}, {"lang": None}),
    "templates": (
        lambda p, o: prune_templates(p, o, prompt="prompt", completion="completion"),
        {"prompt": "p", "completion": "c"},
        {"completion": None},
    ),
    "template of columns": (
        lambda p, _: with_text(read(p), "{text} {m}")[0].to_table(),
        {"m": "m"},
        {"m": None},
    ),
    "sample": (answered, {"prompt": "{n}"}, {"prompt": None}),
    "annotate": (labelled, {}, {"n": "two"}),
    "items": (
        lambda p, _: items_from(read(p), "{text}", "{answer}", None),
        {"answer": "a"},
        {"answer": " "},
    ),
    "markers tag": (
        lambda p, o: tag(p, o, columns=["style=m"]),
        {"prompt": "p", "completion": "c", "m": "Formal"},
        {"m": "loud"},
    ),
    "memory": (
        lambda p, _: open_memory(p, source="text", answer="answer"),
        {"answer": "a"},
        {"answer": None},
    ),
    "learn a selector": (learned, {"answer": "a"}, {"answer": " "}),
    "index": (lambda p, o: Index.build(p, "text", out=o), {}, {"text": None}),
    "datastore": (lambda p, o: build_datastore(p, out=o, model="ui-s"), {}, {"text": None}),
    "votes": (lambda p, _: arena.read_votes(p), VOTE, {"winner": "z"}),
    "votes that were blind": (
        lambda p, _: arena.read_votes(p),
        {**VOTE, "anony": "{odd}"},
        {"winner": "z"},
    ),
    "judge": (lambda p, _: judged(p, texts=True), {**PAIR, "prompt": "p"}, {"prompt": None}),
    "prioritize": (lambda p, _: prioritized(p), {**PAIR, "prompt": "p"}, {"model_b": "x"}),
    "annotated pairs": (lambda p, _: annotated(p), {**PAIR, "prompt": "p"}, {"model_b": "x"}),
    "models": (
        lambda p, _: made_by(p),
        {"model": "m{n}", "organisation": "o"},
        {"model": "m3", "organisation": "other"},
    ),
    "laws": (lambda p, _: scale.read_runs(p), RUN, {"loss": None}),
    "curves": (
        lambda p, _: scores_at(p, levers=True, resamples=100, seed=0),
        {"lever": "a", "size": "{n}", "value": "{n}"},
        {"value": "much"},
    ),
    "published": (
        lambda p, _: read_published(p, Columns(), ["params"]),
        {"model": "m{n}", "params": "{n}e9", "score": 1.5},
        {"params": "-8"},
    ),
    "compare": (lambda p, _: forget.read_predictions(p), ANSWER, {"prediction": None}),
    "compare trainings": (
        lambda p, _: forget.ladder([p, p]),
        {**ANSWER, "seed": "{odd}", "id": "{half}"},
        {"prediction": None},
    ),
    "audit": (lambda p, _: read_populations(p), {**ANSWER, "level": "dense"}, {"level": None}),
    "divergence": (lambda p, _: [*Documents(p, None, None)], {}, {"text": None}),
    "profile": (lambda p, _: read_side(p, TextColumns(), []), {}, {"text": None}),
    "route": (
        lambda p, _: route(p),
        {"id": "{n}", "lang": "en", "teacher": "t", "answer": "a"},
        {"answer": None},
    ),
}


def written(folder: Path, shape: Row, damage: Row) -> Paths:
    """Two files of rows, the third of the second of which is damaged."""
    files = []
    for name, count in (("a.jsonl", 4), ("b.jsonl", 5)):
        lines = []
        for at in range(1, count + 1):
            number = at if name == "a.jsonl" else at + 10
            told = {"n": number, "odd": at % 2 == 1, "half": number // 2}
            row = {"text": f"text {number}", "n": str(number) if "n" in damage else number}
            row |= {k: filled(value, told) for k, value in shape.items()}
            row |= damage if (name, at) == ("b.jsonl", 3) else {}
            lines.append(json.dumps(row) + "\n")
        (folder / name).write_text("".join(lines))
        files.append(str(folder / name))
    return files


def filled(value: Any, told: Row) -> Any:
    if value == "{odd}":
        return told["odd"]
    return value.format(**told) if isinstance(value, str) else value


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_third_row_is_row_3_of_its_file(case: str, tmp_path: Path) -> None:
    run, shape, damage = CASES[case]
    paths = written(tmp_path, shape, damage)
    with pytest.raises(PomonaError) as caught:
        run(paths, tmp_path / "out.jsonl")
    assert f"{paths[1]}, row 3" in str(caught.value)
    assert not (tmp_path / "out.jsonl").exists()
