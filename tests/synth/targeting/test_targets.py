from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, strategies as st

from pomona.cli import main
from pomona.errors import GateFailed, PomonaError
from pomona.records import read, write
from pomona.synth.targeting import Cell, Plan, TargetsRecipe, plan_targets, shares_asked
from pomona.text import Nearest

WORDS = ("save", "open", "close", "page", "file", "user", "list", "all", "new", "the")


def texts(n: int, words: int, seed: int) -> list[str]:
    drawn = np.random.default_rng(seed)
    made: dict[str, None] = {}
    while len(made) < n:
        made[" ".join(drawn.choice(WORDS, words)) + f" {len(made)}"] = None
    return list(made)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training data in three languages, of which `xx` has few rows and no long ones."""
    place = tmp_path_factory.mktemp("targets")
    short, long = texts(60, 2, 0), texts(30, 8, 1)
    rows = [{"lang": "de", "text": one, "kind": "a"} for one in short + long]
    rows += [{"lang": "nl", "text": one, "kind": "a"} for one in short[:40] + long[:20]]
    rows += [{"lang": "xx", "text": one, "kind": "b"} for one in short[:10]]
    write(pa.Table.from_pylist(rows), place / "train.parquet")
    asked = [
        {"lang": lang, "text": one, "kind": "a"}
        for lang in ("de", "nl", "xx")
        for one in texts(20, 2, 5) + texts(10, 8, 6)
    ]
    write(pa.Table.from_pylist(asked), place / "valid.csv")
    told = [{**row, "reference": "right", "cluster": row["text"][:9]} for row in asked]
    for at, row in enumerate(told):
        row["answer"] = "wrong!" if row["lang"] == "nl" and len(row["text"]) > 25 else "right"
        row["answer"] = row["answer"] if at % 7 else "write"
    write(pa.Table.from_pylist(told), place / "answers.jsonl")
    write(pa.table({"text": [short[20], long[5] + " now", "not of the pool"]}), place / "test.csv")
    return place


def made(folder: Path, out: Path, **more: Any) -> Plan:
    given: dict[str, Any] = {
        "training": {"rows": [str(folder / "train.parquet")]},
        "by": ["lang", "length"],
        "lengths": [25],
        "rows": 60,
        "pool": {"rows": [str(folder / "train.parquet")], "cross": True},
        **more,
    }
    return plan_targets(TargetsRecipe.model_validate(given), out)


def cell(plan: Plan, *values: str) -> Cell:
    return next(one for one in plan.cells if one.values == values)


def test_what_is_asked_for_goes_to_what_lacks_most(folder: Path, tmp_path: Path) -> None:
    """Six cells of 160 + 60 rows: each should have 36 2/3."""
    plan = made(folder, tmp_path / "o")
    counts = {one.values: one.rows for one in plan.cells}
    assert counts == {
        ("de", "0–24"): 60, ("de", "25–"): 30, ("nl", "0–24"): 40, ("nl", "25–"): 20,
        ("xx", "0–24"): 10, ("xx", "25–"): 0,
    }  # fmt: skip
    share = 220 / 6
    lacks = np.maximum(0, share - np.array(list(counts.values())))
    assert [one.lacks for one in plan.cells] == pytest.approx(lacks)
    exact = 60 * lacks / lacks.sum()
    assert plan.asked == 60
    assert [one.asked for one in plan.cells] == pytest.approx(exact, abs=1)
    empty = cell(plan, "xx", "25–")
    assert (empty.available, empty.chosen, empty.asked) == (30, 25, 25)
    prompts = read(tmp_path / "o/prompts.parquet").to_table().to_pylist()
    assert len({row["id"] for row in prompts}) == len(prompts) == plan.chosen
    training = read(folder / "train.parquet").to_table().to_pylist()
    there = {(row["lang"], row["text"]) for row in training}
    assert not there & {(row["lang"], row["text"]) for row in prompts}
    assert {row["text"] for row in prompts} <= {row["text"] for row in training}


def test_a_larger_plan_takes_the_prompts_of_a_smaller_one(folder: Path, tmp_path: Path) -> None:
    ids = []
    for rows in (20, 60):
        made(folder, tmp_path / "o", rows=rows)
        ids.append(
            {row["id"] for row in read(tmp_path / "o/prompts.parquet").to_table().to_pylist()}
        )
    assert ids[0] < ids[1]
    made(folder, tmp_path / "o", rows=20, seed=1)
    assert {
        row["id"] for row in read(tmp_path / "o/prompts.parquet").to_table().to_pylist()
    } != ids[0]


def test_no_prompt_is_a_near_copy_of_a_test(folder: Path, tmp_path: Path) -> None:
    test = [{"rows": [str(folder / "test.csv")]}]
    plan = made(folder, tmp_path / "o", test=test, rows=2000, only={"lang": ["xx"]})
    taken = read(tmp_path / "o/prompts.parquet").to_table().column("text").to_pylist()
    forbidden = read(folder / "test.csv").to_table().column("text").to_pylist()
    assert taken and not set(taken) & set(forbidden)
    assert not any(one.startswith(two.removesuffix(" now")) for one in taken for two in forbidden)
    assert plan.passed["near copies of a test's text"] >= 2
    assert any("the pool has no prompts for" in note for note in plan.notes)


def test_weak_cells_get_their_part(folder: Path, tmp_path: Path) -> None:
    more = {
        "demand": {"rows": [str(folder / "valid.csv")]},
        "answers": {"rows": [str(folder / "answers.jsonl")], "metric": "exact_match",
                    "cluster": "cluster"},
    }  # fmt: skip
    plan = made(folder, tmp_path / "o", **more)
    weak = cell(plan, "nl", "25–")
    assert [one.values for one in plan.cells if one.weak] == [weak.values]
    assert weak.value is not None and weak.ci_high is not None and plan.overall is not None
    assert weak.value <= weak.ci_high < plan.overall
    assert weak.demand == 10 and weak.answers == 10
    # All that is weak is there: half of the rows, and its part of the other half
    assert 30 <= weak.asked < 45
    assert made(folder, tmp_path / "o", **more, weakness=1.0).cells[3].asked == 60
    thin = made(folder, tmp_path / "o", **more, weakness=0.0)
    assert cell(thin, "nl", "25–").asked < 10


def test_targets(folder: Path, tmp_path: Path) -> None:
    """Uniform by groups and like the demand of all within them; tempered; as the demand."""
    valid = {"rows": [str(folder / "valid.csv")]}
    plan = made(folder, tmp_path / "o", demand=valid)
    for group in ("de", "nl", "xx"):
        shares = [one.target for one in plan.cells if one.values[0] == group]
        assert shares == pytest.approx([2 / 9, 1 / 9])
    flat = made(folder, tmp_path / "o", target={"temperature": 3})
    weights = {group: n ** (1 / 3) for group, n in {"de": 90, "nl": 60, "xx": 10}.items()}
    for group, weight in weights.items():
        share = sum(one.target for one in flat.cells if one.values[0] == group)
        assert share == pytest.approx(weight / sum(weights.values()))
    one = {"rows": [str(folder / "valid.csv")], "where": {"lang": ["xx"]}}
    asked = made(folder, tmp_path / "o", demand=one, target="demand")
    assert cell(asked, "xx", "0–24").target == pytest.approx(2 / 3)
    assert all(cell.asked == 0 for cell in asked.cells if cell.values[0] != "xx")


def test_distance_is_that_of_the_nearest_text_of_the_group(folder: Path, tmp_path: Path) -> None:
    valid = {"rows": [str(folder / "valid.csv")]}
    plan = made(folder, tmp_path / "o", by=["lang", "distance"], demand=valid, near=0.7, far=0.5)
    rows = read(folder / "train.parquet").to_table().to_pylist()
    asked = read(folder / "valid.csv").to_table().to_pylist()
    for group in ("de", "nl", "xx"):
        mine = [row["text"] for row in rows if row["lang"] == group]
        theirs = [row["text"] for row in asked if row["lang"] == group]
        far = Nearest(mine).search(theirs, 1).similarity[:, 0] < 0.5
        assert cell(plan, group, "far").demand == far.sum()
        alone = [Nearest(mine[:at] + mine[at + 1 :]).search([one], 1).similarity[0, 0]
                 for at, one in enumerate(mine)]  # fmt: skip
        # What a text is compared with without itself has other weights, so borders may shift
        assert abs(cell(plan, group, "near").rows - np.sum(np.array(alone) >= 0.7)) <= 4
    found = made(folder, tmp_path / "o", demand=valid)
    told = cell(found, "xx", "25–")
    assert told.far is not None and told.far_low is not None and told.far_low <= told.far


@given(
    st.lists(st.floats(0, 100), min_size=3, max_size=3),
    st.lists(st.floats(0, 100), min_size=3, max_size=3),
    st.floats(0, 1),
)
def test_shares_are_shares(lacks: list[float], weak: list[float], weakness: float) -> None:
    shares = shares_asked(np.array(lacks), np.array(weak), weakness)
    assert np.all(shares >= 0)
    assert shares.sum() == pytest.approx(1 if sum(lacks) or sum(weak) else 0)


def test_a_group_of_which_there_is_nothing(folder: Path, tmp_path: Path) -> None:
    valid = {"rows": [str(folder / "valid.csv")]}
    plan = made(folder, tmp_path / "o", only={"lang": ["zz"]}, demand=valid, rows=30)
    assert [(one.values, one.rows, one.asked) for one in plan.cells] == [
        (("zz", "0–24"), 0, 20), (("zz", "25–"), 0, 10),
    ]  # fmt: skip
    assert plan.chosen == 30


def test_a_pool_without_any_prompt_is_an_error(folder: Path, tmp_path: Path) -> None:
    write(pa.table({"text": ["a text"], "lang": ["qq"], "kind": ["a"]}), tmp_path / "pool.parquet")
    rows = {"rows": [str(tmp_path / "pool.parquet")]}
    pool, test = {**rows, "cross": True}, [rows]
    with pytest.raises(GateFailed, match=r"no prompt was found: prompts that were near copies"):
        made(folder, tmp_path / "o", pool=pool, test=test, only={"lang": ["qq"]})
    assert not (tmp_path / "o").exists()


def test_a_pool_that_has_groups_of_its_own(folder: Path, tmp_path: Path) -> None:
    pool = {"rows": [str(folder / "valid.csv")], "columns": "kind"}
    made(folder, tmp_path / "o", pool=pool)
    rows = read(tmp_path / "o/prompts.parquet").to_table().to_pylist()
    asked = read(folder / "valid.csv").to_table().to_pylist()
    assert rows and {row["kind"] for row in rows} == {"a"}
    for row in rows:
        source = asked[int(row["id"]) - 1]
        assert (source["lang"], source["text"]) == (row["lang"], row["text"])


def test_the_command_line_and_its_page(folder: Path, tmp_path: Path, capsys: Any) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"training: {{rows: {folder}/train.parquet}}\nby: [lang, kind]\nrows: 9\n")
    line = ["synth", "targets", str(recipe), "--out", str(tmp_path / "o")]
    assert main([*line, "--page", str(tmp_path / "p")]) == 0
    said = capsys.readouterr().out
    assert "9 rows for" in said and "training" in said
    page = (tmp_path / "p/index.html").read_text()
    assert "What is asked for" in page and "<script" not in page
    assert main([*line, "--format", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "o/plan.json").read_text())
    assert told["asked"] == 9 and told["chosen"] is None
    assert told["cells"][0]["cell"] == {"lang": "de", "kind": "a"}
    cells = read(tmp_path / "o/cells.csv").to_table().to_pylist()
    assert len(cells) == len(told["cells"]) and {"lang", "kind", "asked"} <= cells[0].keys()
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == [
        ".pomona.json", "cells.csv", "plan.json",
    ]  # fmt: skip


BAD = {
    "rows: 5": 'line 1: "training" is missing',
    "training: {rows: x}\nrows: 5\nby: [length]": 'line 3: "by" begins with "length"',
    "training: {rows: x}\nrows: 5\nonly: {kind: a}": 'line 3: "only" names "kind"',
    "training: {rows: x}\nrows: 5\ntarget: demand": 'line 3: "target" is demand, which is not',
    "training: {rows: x}\nrows: 5\nlengths: [9, 3]": 'line 3: "lengths" must rise',
    "training: {rows: x}\nrows: 5\ntest: [{rows: x}]": 'line 3: "test" is for prompts',
    "training: {rows: x}\nrows: 0": 'line 2: "rows" must be at least 1, not 0',
    "training: {rows: x}\nrows: 5\ntrget: 1": 'line 3: unknown key "trget" — did you mean "target"?',
}


@pytest.mark.parametrize("text", BAD)
def test_mistakes_in_a_recipe_are_told_with_their_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(PomonaError) as caught:
        plan_targets(path, tmp_path / "o")
    assert BAD[text] in str(caught.value)


def test_what_cannot_work_is_refused(folder: Path, tmp_path: Path) -> None:
    write(pa.table({"lang": ["de", None], "text": ["a", "b"], "n": [1, 1]}), tmp_path / "n.parquet")
    holes = {"rows": [str(tmp_path / "n.parquet")]}
    wrong = {
        'there is no column "kin"': {"by": ["lang", "kin"]},
        'column "lang" is null in 1 row — fill them in': {"training": holes},
        'column "n" holds int64, not text': {"text": "n", "training": holes},
        '"a" is there twice': {"pool": {"rows": [str(folder / "train.parquet")], "id": "kind"}},
        "there are no answers in these cells": {
            "answers": {"rows": [str(folder / "answers.jsonl")]}, "only": {"lang": ["zz"]},
        },
        "there is no training data": {
            "training": {"rows": [str(folder / "train.parquet")], "where": {"lang": ["zz"]}},
        },
    }  # fmt: skip
    for text, more in wrong.items():
        with pytest.raises(PomonaError) as caught:
            made(folder, tmp_path / "o", **more)
        assert text in str(caught.value)
    assert not (tmp_path / "o").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis").write_text("mine")
    with pytest.raises(PomonaError, match="holds files"):
        made(folder, tmp_path / "mine")
