"""Metrics that read how probable a model finds texts, and tasks of lm-evaluation-harness, of which
its own tests (`make test-harness`) know whether the numbers are right.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pomona.errors import PomonaError
from pomona.ledger import Entry, Ledger
from pomona.models import Request, load
from pomona.recipe import dry_run, run
from pomona.tasks import Items, metric

ROWS = [
    ("Save", ["Speichern", "Suchen"], 0),
    ("Search", ["Speichern", "Suchen", "Suche"], 1),
    ("Delete the page", ["Seite löschen", "Löschen"], 0),
    ("Page", ["Seite", "Datei"], 0),
    ("File", ["Seite", "Datei"], 1),
]
RECIPE = """\
name: choice
dtype: float32
data: {records: rows.jsonl, prompt: "<{lang}>{text} ", completion: "{right}", options: options, group: lang}
task: {where: {split: test}, metric: [acc, acc_norm, bits_per_byte], tail: 0, resamples: 1000}
base: hf:model
"""
LEARNED = """\
controls: {where: {split: train}}
levers: {memory: {neighbours: {least: 0, train: false}}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a tiny model, and questions with options."""
    from tests.recipe.conftest import checkpoint

    folder = tmp_path_factory.mktemp("likelihoods")
    checkpoint(folder / "model", 16)
    rows = [
        {"text": text, "options": options, "right": right, "lang": "de", "split": split}
        for text, options, right in ROWS
        for split in ("test", "train")
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def write(folder: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (folder / "recipe.yaml").write_text(text)
        return folder / "recipe.yaml"

    return write


def of(ledger: Ledger, variant: str, metric: str) -> Entry:
    entries = (e for e in ledger.entries if e.metric == metric and e.group == "overall")
    return next(e for e in entries if e.variant == variant and e.baseline == ledger.meta.base)


def test_options_and_bits_are_what_the_model_says_of_them(folder: Path, write: Any) -> None:
    out = run(write(RECIPE + LEARNED), folder / "run")
    ledger, model = Ledger.read(out / "ledger.json"), load(f"hf:{folder / 'model'}")
    prompts = [f"<de>{text} " for text, _, _ in ROWS]
    scored = [
        [model.score([prompt], [option])[0] for option in options]
        for prompt, (_, options, _) in zip(prompts, ROWS, strict=True)
    ]
    pairs = [
        list(zip(options, (each.sum() for each in found), strict=True))
        for found, (_, options, _) in zip(scored, ROWS, strict=True)
    ]
    right = [options[place] for _, options, place in ROWS]
    own = [found[place] for found, (_, _, place) in zip(scored, ROWS, strict=True)]
    for name, read in (("acc", pairs), ("acc_norm", pairs), ("bits_per_byte", own)):
        measure = metric(name)
        expected = measure.aggregate(measure.statistics(read, right).sum(0))
        assert of(ledger, "hf:model", name).value == pytest.approx(float(expected), rel=1e-5)
    base, shown = (of(ledger, name, "bits_per_byte") for name in ("hf:model", "memory/neighbours"))
    assert ledger.meta.higher == {"acc_norm": True, "bits_per_byte": False}
    assert shown.value != base.value and (base.flops_per_item or 0) > 0
    assert (shown.tokens_per_item or 0) > (base.tokens_per_item or 0) > 0
    assert {e.lever for e in ledger.entries} == {"scale", "memory"}  # nothing is copied
    said = pq.read_table(next(out.glob("steps/score-hf-model-*/answers.parquet")))
    assert set(said["answer"].to_pylist()) <= {option for _, each, _ in ROWS for option in each}


def test_where_nothing_but_options_is_read_chance_is_the_control(folder: Path, write: Any) -> None:
    text = RECIPE.replace(", bits_per_byte", "").replace("[acc,", "[acc_bytes, acc,")
    ledger = Ledger.read(run(write(text), folder / "chance") / "ledger.json")
    draw = np.random.default_rng(0)
    items = pq.read_table(next((folder / "chance").glob("steps/test-items-*/items.parquet")))
    picks = [options[draw.integers(len(options))] for options in items["options"].to_pylist()]
    hits = np.mean(np.array(picks) == np.array(items["completion"].to_pylist()))
    for name in ("acc", "acc_norm", "acc_bytes"):
        entry = of(ledger, "chance", name)
        assert (entry.lever, entry.value) == ("control", pytest.approx(100 * hits))
        assert (entry.flops_per_item, entry.tokens_per_item) == (0, 0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (", options: options", "", r'line 4: "acc" chooses among "options": name them in "data"'),
        (
            "bits_per_byte]",
            "chrf]",
            "line 4: one recipe measures texts or log-probabilities: acc options and acc_norm "
            "options and chrf text",
        ),
        (
            "base: hf:model",
            "base: http://h/v1#m",
            r'line 4: the metric "acc" needs a model that can score given text \("score"\)',
        ),
        (
            "base: hf:model",
            "base: hf:model\nlevers: {sampling: {strategies: [hedged2-mbr]}}",
            'hedged2-mbr: the lever "sampling" changes answers, and "acc" reads none — leave it',
        ),
        (
            "task: {",
            "task: {harness: x.yaml, ",
            '"metric" is the harness task.s own: take it away, or say what there is to say in "har',
        ),
        (RECIPE.splitlines()[2] + "\n", "", 'line 1: "data" is missing'),
    ],
)
def test_what_does_not_go_together_is_told_before_anything_is_done(
    folder: Path, write: Any, old: str, new: str, message: str
) -> None:
    assert old in RECIPE
    with pytest.raises(PomonaError, match=message):
        dry_run(write(RECIPE.replace(old, new)), folder / "never")


HARNESS = "name: said\ntask: {harness: said.yaml, tail: 0, resamples: 1000}\nbase: hf:model\n"


def test_a_task_of_the_harness_without_its_package_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, folder: Path, write: Any
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(PomonaError, match=r"for tasks .* — pip install 'pomona\[harness\]'"):
        dry_run(write(HARNESS), folder / "never")
    for more, message in (
        ("train: {where: {a: b}, tokens: 9}\n", 'line 4: "train" needs "data": how a row becomes'),
        ("controls: {where: {a: b}}\n", 'line 4: "controls" needs "data"'),
        ("validation: {where: {a: b}}\n", '"validation" is given by "harness", as in the task'),
    ):
        with pytest.raises(PomonaError, match=message):
            dry_run(write(HARNESS + more), folder / "never")


@dataclass(frozen=True)
class Counted:
    """The metric of a task: how many characters of an answer are those wanted, and their share."""

    task: Any
    name: str = "found"
    reads: str = "text"
    higher_is_better: bool = True
    additive: bool = True
    signature: str = "found|lm-eval:0"
    stored: Any = field(default_factory=lambda: type("Stored", (), {"sums": None}))

    def statistics(self, outputs: Sequence[str], references: Sequence[str]) -> np.ndarray:
        return self.rows(self.task.results(outputs, references))

    def rows(self, results: Any) -> np.ndarray:
        return np.column_stack([results["found,none"], np.ones(len(results["found,none"]))])

    def aggregate(self, sums: np.ndarray) -> np.ndarray:
        return sums[..., 0] / sums[..., 1]


class OpenTask:
    """Stands for a task that the package has opened."""

    name, needs, chooses, signature = "said", "generate", False, "lm-eval:0|task:said"
    draws = ((0, 0.0),)

    def __init__(self, path: Path, **settings: Any) -> None:
        assert path.name == "said.yaml" and settings["shots"] is None
        texts = [text for text, _, _ in ROWS]
        ids = [f"{self.name}-{at}" for at in range(len(ROWS))]
        self.items = Items(ids, texts, texts, ["all"] * 5, texts, ids)
        self.metrics = (Counted(self),)

    def requests(self, seed: int = 0) -> list[Any]:
        asked = (Request(prompt=one, max_tokens=5, stop=("e",)) for one in self.items.prompts)
        return [(one, self.draws) for one in asked]

    def results(self, answers: Sequence[str], ids: Sequence[str]) -> dict[str, list[float]]:
        assert set(ids) <= set(self.items.ids)
        return {"found,none": [float(len(answer)) for answer in answers]}


def test_a_task_of_the_harness_is_asked_and_judged_by_itself(
    monkeypatch: pytest.MonkeyPatch, folder: Path, write: Any
) -> None:
    monkeypatch.setattr("pomona.tasks.harness.harness_task", OpenTask, raising=False)
    more = "levers: {sampling: {strategies: [hedged2-mbr]}}\nvalidation: {harness: said.yaml}\n"
    out = run(write(HARNESS + more), folder / "said")
    ledger = Ledger.read(out / "ledger.json")
    answers = {
        step.name: pq.read_table(step / "answers.parquet")["answer"].to_pylist()
        for step in out.glob("steps/choose-*")
    }
    greedy = next(answers[name] for name in answers if name.startswith("choose-greedy"))
    assert all("e" not in answer for answer in greedy)  # it ends where the task says
    base, pool = (of(ledger, name, "found") for name in ("hf:model", "hedged2-mbr"))
    assert base.value == np.mean([len(answer) for answer in greedy])
    hope, risk = (of(ledger, f"hedged2/{name}", "found").value for name in ("hope", "risk"))
    assert hope >= pool.value >= risk and hope >= base.value and not pool.optimised
    assert of(ledger, "copy", "found").value == np.mean([len(text) for text, _, _ in ROWS])
    assert base.signature.startswith("found|lm-eval:0|boot:1000")
    kept = pq.read_table(next(out.glob("steps/ask-hf-model-for-greedy-*/pools.parquet")))
    assert max(map(max, kept["tokens"].to_pylist())) <= 5
    monkeypatch.setattr(OpenTask, "draws", ((0, 0.5), (1, 0.5)))
    with pytest.raises(PomonaError, match=r"said.yaml: draws its answers \(do_sample, repeats\)"):
        dry_run(write(HARNESS), folder / "never")
    monkeypatch.setattr(OpenTask, "draws", ((0, 0.0),))
    with pytest.raises(
        PomonaError, match=r'said.yaml: has no metric "fond" — did you mean "found"'
    ):
        dry_run(write(HARNESS.replace("said.yaml", "{task: said.yaml, metrics: [fond]}")))
