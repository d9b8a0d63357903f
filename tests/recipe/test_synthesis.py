"""The synthesis lever: teachers write for empty cells, policies buy, students learn."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pomona.documents import read_json
from pomona.errors import PomonaError
from pomona.ledger import Entry, Ledger
from pomona.models import locate
from pomona.recipe import load_recipe, run
from pomona.synth import Assignment, Candidate, Lesson, reward_from

RECIPE = """\
name: small
seed: 3
data: {records: rows.jsonl, prompt: "<|{lang}|>{text}<|to|>", completion: "{answer}", group: lang}
task: {where: {split: test}, tail: 1, max_new_tokens: 16, cluster: text, resamples: 1000}
validation: {where: {split: valid}}
base: hf:model
train: {where: {split: train}, tokens: 500, batch_tokens: 256}
levers:
  synthesis:
    teachers:
      small: {model: ui-xs, samples: 3, temperature: 1.0}
      loud:
        licence: MIT
        programs:
          - {group: af, command: [tr, a-z, A-Z], pivot: nl}
          - {group: af, apertium: xxx-yyy, package: apertium-xxx-yyy}
      gone: {programs: [{group: af, apertium: zzz-yyy, package: apertium-zzz-yyy}]}
      book: {table: {records: book.jsonl}}
      memory: {phrases: true}
    policies: [single small, single loud, single book, fixed, learned, reward, all]
    generations: 12
    reward: REWARD
    share: 0.5
"""
LIKELY = {"model": "ui-xs", "prompt": "<|{lang}|>{text}<|to|>", "raw": True}
REWARD = {"agreement": True, "likelihood": LIKELY}
RECIPE = RECIPE.replace("REWARD", json.dumps(REWARD))
WORDS = ["page", "file", "user", "save", "open", "new", "delete", "all"]
SOURCES = [f"{WORDS[n % 8]} {WORDS[(n * 3 + n // 8) % 8]} {n}" for n in range(48)]


def split_of(number: int) -> str:
    return {0: "test", 1: "valid"}.get(number % 6, "train")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.recipe.conftest import checkpoint

    folder = tmp_path_factory.mktemp("synthesis")
    checkpoint(folder / "model", 16)
    rows, book = [], []
    for number, text in enumerate(SOURCES):
        split = split_of(number)
        for lang in ("nl", "de", "af"):
            # Of the sources to learn from the small group has each third.
            if lang != "af" or split != "train" or number % 3 == 0:
                answer = f"{text.title()} {lang}"
                rows.append({"text": text, "answer": answer, "lang": lang, "split": split})
        book.append({"text": text, "answer": f"{text} book", "lang": "af"})
    # A near copy of a test item's source is no cell.
    rows.append({"text": f"{SOURCES[0]}!", "answer": "Bladzijde", "lang": "nl", "split": "train"})
    for name, each in (("rows", rows), ("book", book)):
        written = "".join(json.dumps(row) + "\n" for row in each)
        (folder / f"{name}.jsonl").write_text(written, encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    return run(folder / "recipe.yaml", folder / "run")


def result(out: Path, name: str, file: str) -> Any:
    folders = [path for path in out.glob(f"steps/{name}-????????????????") if path.is_dir()]
    assert len(folders) == 1, folders
    path = folders[0] / file
    return (
        pq.read_table(path).to_pylist()
        if path.suffix == ".parquet"
        else json.loads(path.read_text(encoding="utf-8"))
    )


def of(out: Path, variant: str) -> Entry:
    ledger = Ledger.read(out / "ledger.json")
    return next(e for e in ledger.of("overall") if e.variant == variant)


def bought(out: Path, policy: str) -> Any:
    return result(out, f"buy-by-{policy.replace(' ', '-')}", "synthesis.json")


def test_each_policy_is_an_entry_beside_its_controls(finished: Path) -> None:
    ledger = Ledger.read(finished / "ledger.json")
    policies = ["single small", "single loud", "single book"]
    policies += ["fixed", "learned", "reward", "all"]
    names = [f"synthesis/{name}" for name in ("real rows", *policies)]
    mine = [e for e in ledger.of("overall") if e.lever == "synthesis"]
    assert list(dict.fromkeys(e.variant for e in mine)) == ["all data", *names]
    against = {e.baseline for e in mine if e.variant == "synthesis/reward"}
    assert {"hf:model", "synthesis/real rows", "all data"} <= against
    assert all(
        abs(e.tokens or 0) < 60
        for e in mine
        if e.baseline == "synthesis/real rows" and "book" in e.variant
    )


def test_cells_are_what_others_have_and_the_group_has_not(finished: Path) -> None:
    cells = result(finished, "empty-cells", "items.parquet")
    empty = {text for n, text in enumerate(SOURCES) if split_of(n) == "train" and n % 3}
    assert len(cells) == 12 and {cell["source"] for cell in cells} < empty
    assert {cell["group"] for cell in cells} == {"af"}
    assert all(cell["prompt"] == f"<|af|>{cell['source']}<|to|>" for cell in cells)


def test_policies_buy_as_many_answers(finished: Path) -> None:
    cards = {name: bought(finished, name) for name in ("single book", "fixed", "reward", "all")}
    assert {cards[name]["generations"] for name in cards} == {12}
    # Of a cell the model gives three answers, the others one: six in all.
    assert cards["reward"]["rows"] == 2 and cards["all"]["rows"] <= 12
    assert cards["single book"]["rows"] == 12
    for card in cards.values():
        assert card["rows"] + sum(card["rejects"].values()) <= card["generations"]


def test_draws_are_bought_and_the_best_by_the_reward_is_kept(finished: Path) -> None:
    lessons = result(finished, "take-what-small-writes-to-cells", "lessons.parquet")
    drawn: dict[str, list[str]] = {}
    for row in lessons:
        assert row["sample"] == len(drawn.setdefault(row["id"], []))
        drawn[row["id"]].append(row["text"])
    assert len(drawn) == 12 and {len(texts) for texts in drawn.values()} == {3}
    assert any(len(set(texts)) > 1 for texts in drawn.values())
    card = bought(finished, "single small")
    assert card["generations"] == 12 and card["rows"] <= 4
    reward = reward_from(REWARD)
    for row in result(finished, "buy-by-single-small", "rows.parquet"):
        cell = row["id"].rsplit("-", 1)[0]
        candidates = [
            Candidate(
                Assignment(cell, row["source"], "", "af"),
                Lesson(cell, text, "small", None, sample=at),
            )
            for at, text in enumerate(drawn[cell])
            if text is not None
        ]
        scores = reward.score(candidates)
        assert row["answer"] == candidates[int(scores.argmax())].lesson.text
    # What the reward cost is in the cost of buying.
    cells = {
        row["id"].rsplit("-", 1)[0] for row in result(finished, "buy-by-reward", "rows.parquet")
    }
    wrote = sum(row["tokens"] for row in lessons if row["id"] in cells)
    assert bought(finished, "reward")["tokens"] > wrote + len(cells)
    # What is drawn to validation items is the surest answer alone.
    judged = result(finished, "take-what-small-writes-to-validation-items", "lessons.parquet")
    assert {row["sample"] for row in judged} == {0}


def test_a_program_writes_from_its_sisters_rows(finished: Path) -> None:
    rows = result(finished, "buy-by-single-loud", "rows.parquet")
    assert rows and all(row["answer"] == f"{row['source'].title()} nl".upper() for row in rows)
    assert {row["licence"] for row in rows} == {"MIT"}
    assert bought(finished, "single loud")["program_seconds"] > 0


def test_absent_programs_are_named_and_left_out(finished: Path) -> None:
    ledger = Ledger.read(finished / "ledger.json")
    told = [note for note in ledger.meta.notes if note.startswith("Left out")]
    assert len(told) == 2 and 'teachers.loud, group "af"' in told[0] and "gone" in told[1]
    assert "apertium-xxx-yyy" in told[0]


def test_what_teachers_cost_is_three_numbers(finished: Path) -> None:
    taught = {one.variant: one for one in Ledger.read(finished / "ledger.json").meta.teaching}
    book, loud = taught["synthesis/single book"], taught["synthesis/single loud"]
    assert (book.flops_marginal, book.flops_full, book.program_seconds) == (0.0, 0.0, 0.0)
    assert loud.flops_full == 0.0 and loud.program_seconds > 0
    small = taught["synthesis/single small"]
    assert small.flops_marginal and small.flops_full
    trained = small.flops_full - small.flops_marginal
    assert trained == pytest.approx(read_json(locate("ui-xs") / "training.json")["flops"])
    # The entry counts a teacher's answers beside the student's training, and no other teacher's.
    less = of(finished, "synthesis/single book").flops_once or 0
    more = of(finished, "synthesis/single small").flops_once or 0
    assert more - less == pytest.approx(small.flops_full, rel=0.01)


def test_a_student_learns_from_real_and_written_rows(finished: Path) -> None:
    items = result(finished, "add-what-all-bought", "items.parquet")
    written = [row for row in items if "book" in row["completion"]]
    real = Counter(row["group"] for row in items if row not in written)
    assert written and real["de"] == real["nl"] - 1 == 32


def test_where_nothing_is_kept_the_policy_and_the_reasons_are_named(
    folder: Path, tmp_path: Path
) -> None:
    part = RECIPE[: RECIPE.index("levers:")].replace("rows.jsonl", str(folder / "rows.jsonl"))
    part = part.replace("hf:model", f"hf:{folder / 'model'}") + "levers:\n  synthesis:\n"
    part += "    teachers: {loud: {programs: [{group: af, command: [tr, a-z, A-Z]}]}}\n"
    part += "    policies: [single]\n    checks: {words: [50, 60]}\n"
    (tmp_path / "recipe.yaml").write_text(part, encoding="utf-8")
    with pytest.raises(PomonaError, match=r"no row came of 24 answers: loud: words \(24\)"):
        run(tmp_path / "recipe.yaml", tmp_path / "run")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("{phrases: true}", "{phrases: true, model: ui-s}", "a teacher is one of"),
        ("{phrases: true}", "{expert: slavic}", '"slavic" is no expert of levers.merging'),
        ("[single small", "[single memry", '"memry" is no teacher'),
        ("[single small", "[best", '"best" is no policy'),
        ("validation: {where: {split: valid}}\n", "", '"fixed" is measured on "validation"'),
        ("tail: 1", "tail: 0", "task.tail is 0"),
        ("{phrases: true}", "{phrases: true, samples: 2}", '"samples" are of a model or an expert'),
        (", package: apertium-zzz-yyy", "", 'name the "package"'),
    ],
)
def test_mistakes_have_a_line_and_a_reason(folder: Path, old: str, new: str, told: str) -> None:
    assert old in RECIPE
    path = folder / "wrong.yaml"
    path.write_text(RECIPE.replace(old, new), encoding="utf-8")
    with pytest.raises(PomonaError) as caught:
        load_recipe(path)
    assert told in str(caught.value) and "line " in str(caught.value)
