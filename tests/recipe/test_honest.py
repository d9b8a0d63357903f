"""What keeps a ledger honest: clusters, correction, controls and the distance to what was learned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pomona.errors import PomonaError
from pomona.ledger import Entry, Ledger, print_table
from pomona.recipe import accounts, answers_of, dry_run, run
from pomona.stats import Resamples, compare, holm
from pomona.tasks import metric, pairwise
from pomona.text import Nearest

RECIPE = """\
name: small
seed: 3
data: {records: rows.jsonl, prompt: "<{lang}>{text}", completion: "{answer}", group: lang}
task: {where: {split: test}, CLUSTERproject: site, tail: 0, max_new_tokens: 2}
base: hf:model
controls: {where: {split: train}, far: 0.3, near: 0.9}
levers: {sampling: {strategies: [hedged2-mbr]}}
"""
KNOWN = {
    "save page": "Seite speichern",
    "save the page": "die Seite speichern",
    "delete file": "Datei löschen",
    "delete user": "Benutzer löschen",
}
COLD = {"quit", "now", "save this page"}  # of a site that nothing is learned from
ASKED = ["save page", "save this page", "delete files", "quit", "now", "delete the user"]


@pytest.fixture
def task(project: Path) -> Path:
    """Rows of two languages; that of "en" has nothing to learn from but one row."""
    rows = [
        {"text": text, "answer": answer, "lang": lang, "split": "train", "topic": "-", "site": "a"}
        for text, answer, lang in (*((*row, "de") for row in KNOWN.items()), ("stop", "halt", "af"))
    ]
    rows += [
        {"text": text, "answer": f"{text}?", "lang": lang, "split": "test", "topic": text[:4]}
        | {"site": "b" if text in COLD else "a"}
        for text in ASKED
        for lang in ("de", "af")
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (project / "rows.jsonl").write_text(lines, encoding="utf-8")
    write(project, cluster=True)
    return project


def write(project: Path, *, cluster: bool) -> None:
    text = RECIPE.replace("CLUSTER", "cluster: topic, " if cluster else "")
    (project / "recipe.yaml").write_text(text, encoding="utf-8")


def of(ledger: Ledger, variant: str, group: str = "overall") -> Entry:
    return next(e for e in ledger.of(group) if e.variant == variant)


def test_controls_equal_their_own_computation(task: Path) -> None:
    out = run(task / "recipe.yaml", task / "run")
    ledger, chrf = Ledger.read(out / "ledger.json"), metric("chrf")
    assert [e.variant for e in ledger.of("overall") if e.lever == "control"] == [
        "copy", "lookup", "consensus5",
    ]  # fmt: skip
    items = pq.read_table(next(out.glob("steps/test-items-*/items.parquet"))).to_pylist()
    expected: dict[str, list[str]] = {"copy": [], "lookup": [], "consensus5": []}
    likeness = []
    for item in items:
        known = KNOWN if item["group"] == "de" else {"stop": "halt"}
        found = Nearest(list(known)).search([item["source"]], 5)
        alike = found.similarity[0][found.similarity[0] > 0]
        answers = [list(known.values())[i] for i in found.rows[0][: len(alike)]]
        votes = pairwise(answers, answers) @ alike if answers else []
        likeness.append(found.similarity[0, 0])
        expected["copy"].append(item["source"])
        expected["lookup"].append(answers[0] if answers else item["source"])
        vote = answers[int(np.argmax(votes))] if likeness[-1] >= 0.3 else item["source"]
        expected["consensus5"].append(vote)
    references = [item["completion"] for item in items]
    statistics = {v: chrf.statistics(answers, references) for v, answers in expected.items()}
    for variant, counts in statistics.items():
        entry = of(ledger, variant)
        assert entry.value == pytest.approx(float(chrf.aggregate(counts.sum(0))))
        assert entry.tokens == 0 and entry.seeds == 1
    assert (of(ledger, "copy").flops_once, of(ledger, "copy").flops_per_item) == (0, 0)
    lookup = of(ledger, "lookup")
    assert lookup.flops_once == sum(Nearest(t).flops for t in (list(KNOWN), ["stop"]))
    assert 0 < lookup.flops_per_item < of(ledger, "hf:model").flops_per_item
    assert of(ledger, "consensus5").flops_per_item == lookup.flops_per_item
    near = np.array(likeness)
    for group, rows in (
        ("near", near >= 0.9),
        ("middle", (near >= 0.3) & (near < 0.9)),
        ("far", near < 0.3),
    ):
        assert of(ledger, "lookup", group).n == rows.sum() > 0
        value = chrf.aggregate(statistics["lookup"][rows].sum(0))
        assert of(ledger, "lookup", group).value == pytest.approx(float(value))
    cold = np.array([item["source"] in COLD for item in items])
    for group, rows in (("warm", ~cold), ("cold", cold)):
        assert of(ledger, "lookup", group).n == rows.sum() == 6
        value = chrf.aggregate(statistics["lookup"][rows].sum(0))
        assert of(ledger, "lookup", group).value == pytest.approx(float(value))
    best = max(
        (e for e in ledger.of("warm") if e.variant in ("hedged2-mbr", "hedged2/random")),
        key=lambda e: e.value,
    )
    assert {each.variant for each in ledger.meta.exchange} == {best.variant}
    assert [each.part for each in ledger.meta.exchange] == ["overall", "far", "cold"]
    familiar = answers_of(out, "best")["familiarity"].to_pylist()
    assert familiar == ["cold" if one else "warm" for one in cold]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<td>far</td>" in page and "p (Holm)" in page
    assert "no model" in page


def test_clusters_are_resampled_and_signed(task: Path) -> None:
    out = run(task / "recipe.yaml", task / "run")
    ledger, chrf = Ledger.read(out / "ledger.json"), metric("chrf")
    assert all("|boot:2000|cluster:topic|" in e.signature for e in ledger.entries)
    items = pq.read_table(next(out.glob("steps/test-items-*/items.parquet")))
    ours = np.load(next(out.glob("steps/copy-*/statistics.npy")))
    base = np.load(next(out.glob("steps/evaluate-*/statistics.npy")))
    draws = Resamples(len(ours), 2000, 3, items["cluster"].to_pylist())
    assert draws.units == 4
    expected, entry = compare(chrf, ours, base, draws), of(ledger, "copy")
    assert (entry.ci_low, entry.ci_high, entry.p_value) == (
        expected.ci_low,
        expected.ci_high,
        expected.p_value,
    )
    assert ledger.meta.notes[0].startswith(
        "Intervals resample test items in clusters, the 4 values of topic; they do not"
    )
    assert not any("share their source" in warning for warning in ledger.meta.warnings)


def test_a_group_of_one_cluster_is_warned_of(task: Path) -> None:
    rows = (task / "rows.jsonl").read_text().splitlines()
    kept = [row for row in rows if '"af"' not in row or "train" in row or "quit" in row]
    (task / "rows.jsonl").write_text("\n".join(kept), encoding="utf-8")
    ledger = Ledger.read(run(task / "recipe.yaml", task / "run") / "ledger.json")
    assert (
        "Nothing is known of the error in near, af: there is one cluster, and intervals have no "
        "width." in ledger.meta.warnings
    )
    assert of(ledger, "copy", "af").p_value == 1


def test_comparisons_of_a_group_are_corrected(task: Path) -> None:
    ledger = Ledger.read(run(task / "recipe.yaml", task / "run") / "ledger.json")
    for group in ("overall", "far", "de"):
        entries = ledger.of(group)
        untested = {"hf:model", "hedged2/hope", "hedged2/risk"}
        assert {e.variant for e in entries if e.p_holm is None} == untested
        tested = [e for e in entries if e.p_holm is not None]
        assert len(tested) == 6  # against chance too
        adjusted = holm([e.p_value or 0 for e in tested])
        np.testing.assert_allclose([e.p_holm for e in tested], adjusted)


def test_repeated_prompts_without_a_cluster_are_warned_of(
    task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(task, cluster=False)
    out = run(task / "recipe.yaml", task / "run")
    ledger = Ledger.read(out / "ledger.json")
    told = "12 of 12 test items share their source with others (6 distinct ones)"
    assert ledger.meta.warnings[0].startswith(told)
    assert told in (out / "report.html").read_text(encoding="utf-8")
    assert json.loads((out / "manifest.json").read_text())["warnings"] == ledger.meta.warnings
    print_table(ledger)
    assert " ".join(capsys.readouterr().out.split()).startswith(f"warning: {told}")
    assert not any("cluster:" in e.signature for e in ledger.entries)


def test_many_comparisons_take_more_resamples(task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "needed", lambda many: 400 * many)
    ledger = Ledger.read(run(task / "recipe.yaml", task / "run") / "ledger.json")
    many = sum(e.p_holm is not None for e in ledger.of("overall"))
    assert many > 2000 / 400
    assert all(f"|boot:{-(-400 * many // 1000)}000|" in e.signature for e in ledger.entries)


def test_without_training_rows_nothing_is_looked_up(task: Path) -> None:
    recipe = task / "recipe.yaml"
    text = recipe.read_text().replace(
        "controls: {where: {split: train}, far: 0.3, near: 0.9}\n", ""
    )
    recipe.write_text(text)
    ledger = Ledger.read(run(recipe, task / "run") / "ledger.json")
    assert [e.variant for e in ledger.of("overall") if e.lever == "control"] == ["copy"]
    assert not ledger.of("near") and any("names no training rows" in n for n in ledger.meta.notes)


def test_test_items_that_were_learned_are_warned_of(task: Path) -> None:
    recipe = task / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("{where: {split: train}, far", "{where: {}, far"))
    ledger = Ledger.read(run(recipe, task / "run") / "ledger.json")
    assert any(
        w.startswith("12 of 12 test items are among the training items")
        for w in ledger.meta.warnings
    )


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("cluster: topic", "cluster: topik", r'there is no column "topik".*did you mean "topic"'),
        ("near: 0.9", "near: 0.2", r'line 6: "far" must be at most "near", which is 0.2'),
        ("group: lang}", 'group: lang, source: "{txt}"}', r'no column "txt"'),
        ("split: train", "split: trian", r'items to look up: no row has "trian"'),
        ("far: 0.3", "neighbours: 0", r'line 6: "neighbours" must be at least 1, not 0'),
    ],
)
def test_mistakes_are_told_before_anything_is_done(
    task: Path, old: str, new: str, text: str
) -> None:
    recipe = task / "recipe.yaml"
    assert old in recipe.read_text()
    recipe.write_text(recipe.read_text().replace(old, new))
    with pytest.raises(PomonaError, match=text):
        dry_run(recipe, task / "run")
