"""Win rates against the base, as people voted and as a judge says."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from pomona.arena import pairs
from pomona.errors import PomonaError, ResourceError
from pomona.ledger import Entry, Ledger
from pomona.recipe import answers_of, dry_run, load_recipe, run

RECIPE = """\
name: small
seed: 3
data: {records: rows.jsonl, group: group}
task:
  where: {split: test}
  tail: 0
  max_new_tokens: 8
base: hf:model
levers:
  sampling: {strategies: [hedged3-mbr]}
"""
LEVER = "hedged3-mbr"


def of(out: Path, variant: str, group: str = "overall", metric: str = "win_rate") -> Entry:
    found = [
        e
        for e in Ledger.read(out / "ledger.json").entries
        if (e.variant, e.group, e.metric) == (variant, group, metric)
    ]
    assert len(found) == 1, found
    return found[0]


def notes_of(out: Path) -> str:
    return "\n".join(Ledger.read(out / "ledger.json").meta.notes)


def test_votes_on_the_pairs_of_a_run_are_its_win_rate(project: Path) -> None:
    recipe, out = project / "recipe.yaml", project / "run"
    recipe.write_text(RECIPE, encoding="utf-8")
    run(recipe, out)
    two = [answers_of(out, name) for name in (LEVER, "base")]
    pairs(two, out=project / "pairs.parquet", per_item=1)
    shown = pq.read_table(project / "pairs.parquet").to_pylist()
    rng = np.random.default_rng(0)
    votes, won = [], dict[str, list[float]]()
    kept = ("item", "model_a", "model_b", "completion_a", "completion_b")
    for at, row in enumerate(shown[:20]):
        for voter in "12":
            winner = rng.choice(["model_a", "model_b", "tie", "tie (bothbad)"])
            own = {"winner": winner, "voter": voter, "time": at + 0.5, "id": f"{at}{voter}"}
            votes.append({name: row[name] for name in kept} | own)
            value = 0.5 if "tie" in winner else float(row[winner] == LEVER)
            won.setdefault(row["item"], []).append(value)
    # What does not count: a vote that was exported twice, on other items, systems and answers.
    odd = {"voter": "1", "time": 99.0, "id": "x", "winner": "model_a"}
    row, last = votes[0] | odd, votes[-1] | odd
    unused = [votes[3], row | {"item": "elsewhere"}, row | {"model_a": LEVER, "model_b": "ghost"}]
    unused += [row | {"model_a": "copy", "model_b": LEVER}, last | {"completion_a": "anew"}]
    # All three votes on a control are for it, and name no answers.
    control = {"model_a": "copy", "model_b": "hf:model", "completion_a": None, "completion_b": None}
    alike = [votes[2 * at] | odd | control | {"id": f"c{at}"} for at in range(3)]
    csv.write_csv(pa.Table.from_pylist([*votes, *unused, *alike]), project / "votes.csv")
    task = "task:\n  win_rate: {votes: votes.csv}\n"
    recipe.write_text(RECIPE.replace("task:\n", task), encoding="utf-8")
    run(recipe, out)
    entry = of(out, LEVER)
    assert entry.value == pytest.approx(100 * np.mean([v for each in won.values() for v in each]))
    assert entry.baseline == "hf:model" and entry.delta == pytest.approx(entry.value - 50)
    assert entry.ci_low < entry.delta < entry.ci_high and entry.scale_equivalent is None
    assert entry.n == 20 and of(out, "hf:model").value == 50
    groups = {e.group: e.n for e in Ledger.read(out / "ledger.json").entries
              if (e.variant, e.metric) == (LEVER, "win_rate")}  # fmt: skip
    assert sum(groups.get(group, 0) for group in ("de", "fr", "af")) == 20
    few = of(out, "copy")  # 3 of 3: by resamples alone there would be no error at all
    assert (few.value, few.n, few.delta, few.ci_high) == (100, 3, 50, 50)
    assert few.ci_low == pytest.approx(50 - 100 * 3.8415 / 6.8415, abs=0.1) and few.p_value == 0.25
    notes = notes_of(out)
    assert "by people's votes: 43 votes on 23 pairs of answers by 2 people" in notes
    assert (
        "5 of 48 votes are not used, those on items that are no test items of this run: 1; on "
        "other answers than those of this run: 1; on pairs that are not one of the judged systems "
        f"and the base: 2 (copy / {LEVER}, ghost / {LEVER}); that stand there twice: 1." in notes
    )
    assert "Nobody voted on sample3-t0.5/random" in notes or "Nobody voted on hedged3" in notes
    assert "win_rate" in (out / "report.html").read_text(encoding="utf-8")
    asked = "win_rate: {variants: [hf:model], "
    recipe.write_text(recipe.read_text().replace("win_rate: {", asked), encoding="utf-8")
    with pytest.raises(PomonaError, match="is the base, and every win rate is against it"):
        dry_run(recipe, out)


def test_votes_on_each_training_count_and_mistakes_in_them_come_first(project: Path) -> None:
    recipe, out = project / "recipe.yaml", project / "run"
    train = "train: {where: {split: train}, tokens: 300, learning_rate: 1.0e-3, seeds: 2}\n"
    text = RECIPE.replace("base:", train + "base:").replace(
        "sampling: {strategies: [hedged3-mbr]}", "data: {keep: 0.4, by: {length: [top]}}"
    )
    votes = "  win_rate: {votes: [v.jsonl, 'v*.jsonl'], variants: [prune/top]}\n"
    recipe.write_text(text.replace("task:\n", "task:\n" + votes), encoding="utf-8")
    (project / "v.jsonl").write_text('{"model_a": "a", "model_b": "b", "winner": "tie"}\n')
    counting = [s for s in dry_run(recipe, out).steps if s.name.startswith("count votes")]
    assert [step.params["systems"] for step in counting] == [
        ["prune/top#3", "prune/top"],
        ["prune/top#4"],
    ]
    assert len(counting[0].inputs["votes"].inputs) == 1  # a file named twice is read once
    with pytest.raises(PomonaError, match='there is no column "item"'):
        run(recipe, out)
    assert not list(out.glob("steps/*/step.json"))


class Judge(BaseHTTPRequestHandler):
    """Prefers what it is shown first, and says nothing of some prompts."""

    asked: ClassVar[Counter[str]] = Counter()

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        prompt = body["messages"][-1]["content"]
        self.asked[prompt] += 1
        said = "Hm." if re.search(r"page \d*5 ", prompt) else "A"
        told = {"prompt_tokens": 100, "completion_tokens": 1}
        choice = {"index": 0, "message": {"content": said}, "finish_reason": "stop"}
        data = json.dumps({"choices": [choice], "usage": told}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None: ...


def test_what_a_judge_cannot_say_is_told_and_a_spent_budget_goes_on(project: Path) -> None:
    Judge.asked.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    uri = f"http://127.0.0.1:{server.server_port}/v1#m"
    recipe, out = project / "recipe.yaml", project / "run"
    task = "win_rate: {judge: who, free: true, per_group: 4, flips: skip, variants: [hedged3-mbr]}"
    text = RECIPE.replace("task:\n", f"task:\n  {task}\n")
    text += f"models:\n  who: {{uri: '{uri}', concurrency: 1}}\n"
    try:
        recipe.write_text(text + "budget: {tokens: 500}\n", encoding="utf-8")
        with pytest.raises(ResourceError, match="items are answered, and kept"):
            run(recipe, out)
        begun = Judge.asked.total()
        assert 0 < begun < 24
        recipe.write_text(text, encoding="utf-8")
        run(recipe, out)
        assert Judge.asked.total() == len(Judge.asked) > begun  # none was asked twice
        rates = [e for e in Ledger.read(out / "ledger.json").entries if e.metric == "win_rate"]
        assert {e.variant for e in rates} <= {"hf:model"}  # no verdict is the same both ways
        notes = notes_of(out)
        n = Judge.asked.total() // 2
        assert f"Of {n} pairs that the judge was asked about" in notes
        assert f"and {n} have no verdict that counts" in notes
        recipe.write_text(text.replace("skip", "tie"), encoding="utf-8")
        run(recipe, out)
        assert Judge.asked.total() == 2 * n  # another rule asks nobody
        silent = sum("page" in p and bool(re.search(r"page \d*5 ", p)) for p in Judge.asked) // 2
        entry = of(out, LEVER)
        assert 0 < silent < n and entry.value == 50 and entry.ci_low < 0 < entry.ci_high
        assert f"and {silent} have no verdict that counts; {2 * silent} answers" in notes_of(out)
        assert 'of the judge named none, the first one: names no verdict: "Hm."' in notes_of(out)
    finally:
        server.shutdown()
        server.server_close()


def test_a_judge_is_asked_about_both_orders_and_once(project: Path) -> None:
    recipe, out = project / "recipe.yaml", project / "run"
    config = project / "model/config.json"  # longer, so that a judge sees two answers whole
    config.write_text(config.read_text().replace(": 128", ": 1024"), encoding="utf-8")
    task = "task:\n  win_rate: {judge: me, per_group: 4, variants: [hedged3-mbr, copy]}\n"
    text = RECIPE.replace("task:\n", task).replace("-mbr]}", "-mbr], judge: me}")
    recipe.write_text(text + "models:\n  me: {uri: hf:model}\n", encoding="utf-8")
    run(recipe, out)
    for variant in (LEVER, "copy"):
        folder = next(out.glob(f"steps/judge-{variant}-by-*"))
        rows = pq.read_table(folder / "wins.parquet").to_pylist()
        judged = [row for row in rows if row["value"] is not None]
        assert len(judged) <= 12 and all(row["value"] in (0, 0.5, 1) for row in judged)
        for row in judged:
            if row["orders"]:
                assert row["value"] == (row["orders"][0] + row["orders"][1]) / 2
        assert of(out, variant).n == len(judged) > 0
        mean = 100 * np.mean([row["value"] for row in judged])
        assert of(out, variant).value == pytest.approx(mean)
    notes = " ".join(Ledger.read(out / "ledger.json").meta.notes)
    assert re.search(r"Win rates are against hf:model, by me: \d+ verdicts", notes)
    # It answers itself, by another name; nothing is chosen by it, as chrF needs no judge.
    assert f"The judge me is the model that answers as hf:model, {LEVER}, and models" in notes
    assert not any(entry.optimised for entry in [of(out, LEVER), of(out, "hf:model")])
    before = {path: path.stat().st_mtime_ns for path in out.glob("steps/*/step.json")}
    run(recipe, out)
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("{}", 'who says what is better is "judge" or "votes", one of them'),
        ("{judge: a, votes: b}", 'who says what is better is "judge" or "votes"'),
        ("{votes: v.csv, flips: tie}", '"flips" is of a judge'),
        ("{judge: a, flips: no}", "flips"),
    ],
)
def test_mistakes(project: Path, asked: str, said: str) -> None:
    path = project / "recipe.yaml"
    task = f"task:\n  win_rate: {asked}\n"
    path.write_text(RECIPE.replace("task:\n", task), encoding="utf-8")
    with pytest.raises(PomonaError) as told:
        load_recipe(path)
    assert said in str(told.value) and "line 5" in str(told.value)
