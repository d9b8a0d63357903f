"""The memory lever: what was learned from, looked up, shown, remembered and chosen among."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pomona.errors import PomonaError
from pomona.ledger import Entry, Ledger
from pomona.memory import (
    COMPOSED,
    EDITED,
    FEATURES,
    MemorySelector,
    Phrases,
    Selector,
    choose_among,
    learn_selector,
    open_memory,
)
from pomona.recipe import load_recipe, run
from pomona.sample import answer_all
from pomona.tasks import metric

RECIPE = """\
name: small
seed: 3
data: {records: rows.jsonl, prompt: "<{lang}>{text}", completion: "{answer}", group: lang}
task: {where: {split: test}, tail: 0, max_new_tokens: 3}
validation: {where: {split: valid}}
base: hf:model
train: {where: {split: train}, tokens: 500, batch_tokens: 256}
levers:
  memory:
    lookup: {}
    neighbours: {shown: 2}
    states: {k: 4, temperature: 1.0e-6, weight: 1.0}
    candidates: {strategy: hedged2-mbr, neighbours: 2}
    phrases: {}
    selector: {shortlist: 2}
stacks: [[memory/states, memory/lookup], [memory/states, memory/selector]]
"""
WORDS = ["page", "file", "user", "save", "open", "new", "delete", "all"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.recipe.conftest import checkpoint

    folder = tmp_path_factory.mktemp("memory")
    checkpoint(folder / "model", 16)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(48):
            text = f"{WORDS[number % 8]} {WORDS[(number * 3 + number // 8) % 8]}"
            split = "test" if number % 6 == 0 else "valid" if number % 6 == 1 else "train"
            row = {"text": text, "answer": f"{text.title()} {number}", "lang": "de", "split": split}
            stream.write(json.dumps(row) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return run(folder / "recipe.yaml", folder / "run")


def result(out: Path, name: str, file: str) -> list[dict[str, Any]]:
    folders = [path for path in out.glob(f"steps/{name}-????????????????") if path.is_dir()]
    assert len(folders) == 1, folders
    return pq.read_table(folders[0] / file).to_pylist()


def of(out: Path, variant: str) -> Entry:
    ledger = Ledger.read(out / "ledger.json")
    return next(e for e in ledger.of("overall") if e.variant == variant)


def test_each_use_is_an_entry(finished: Path) -> None:
    overall = Ledger.read(finished / "ledger.json").of("overall")
    assert list(dict.fromkeys(e.variant for e in overall if e.lever in ("memory", "stack"))) == [
        "memory/lookup", "memory/neighbours", "memory/states", "memory/candidates",
        "memory/phrases", "memory/selector without a model", "memory/selector",
        "memory/states + memory/lookup", "memory/states + memory/selector",
    ]  # fmt: skip


def test_a_threshold_is_the_best_on_validation(finished: Path) -> None:
    at = next(finished.glob("steps/choose-the-threshold-of-hf-model-*")) / "threshold.json"
    said = json.loads(at.read_text(encoding="utf-8"))
    assert said["tried"][f"{said['least']:g}"] == max(said["tried"].values())
    chrf, items = metric("chrf"), result(finished, "validation-items", "items.parquet")
    near = result(finished, "find-the-nearest-items-on-validation-items", "neighbours.parquet")
    own = result(finished, "evaluate-hf-model-on-validation-items", "answers.parquet")
    for least, value in said["tried"].items():
        taken = [
            found["answers"][0] if found["similarity"][0] >= float(least) else answer["answer"]
            for found, answer in zip(near, own, strict=True)
        ]
        counts = chrf.statistics(taken, [item["completion"] for item in items])
        assert value == pytest.approx(float(chrf.aggregate(counts.sum(0))))


def test_neighbours_are_shown_before_the_prompt(finished: Path) -> None:
    items = result(finished, "show-neighbours", "items.parquet")
    plain = {row["id"]: row["prompt"] for row in result(finished, "test-items", "items.parquet")}
    learned = result(finished, "training-items", "items.parquet")
    found = result(finished, "find-the-nearest-items", "neighbours.parquet")
    for item, near in zip(items, found, strict=True):
        nearest = [
            learned[row]
            for row, like in zip(near["rows"], near["similarity"], strict=True)
            if like >= 0.3
        ]
        examples = [f"{row['prompt']}{row['completion']}" for row in nearest[:2]]
        assert item["prompt"] == "".join(reversed(examples)) + plain[item["id"]]
    trained = result(finished, "show-neighbours-in-training", "items.parquet")
    assert [row["completion"] for row in trained] == [row["completion"] for row in learned]
    for shown, row in zip(trained, learned, strict=True):
        assert shown["prompt"].endswith(row["prompt"])
        assert row["completion"] not in shown["prompt"]


def test_states_answer_as_the_nearest_state_did(finished: Path) -> None:
    learned = result(finished, "training-items", "items.parquet")
    begins = {row["completion"].split()[0] for row in learned}
    said = result(finished, "evaluate-memory-states", "answers.parquet")
    assert all(
        any(word.startswith(answer["answer"].split()[0]) for word in begins) for answer in said
    )
    states, base = of(finished, "memory/states"), of(finished, "hf:model")
    file = next(finished.glob("steps/remember-the-states-*")) / "states.safetensors"
    assert states.bytes is not None and base.bytes is not None
    assert 0 < states.bytes - base.bytes <= file.stat().st_size
    assert (states.flops_per_item or 0) > (base.flops_per_item or 0)
    assert (states.flops_once or 0) > 0


def test_candidates_are_chosen_as_by_hand(finished: Path) -> None:
    pools = result(finished, "sample-hedged2", "pools.parquet")
    near = result(finished, "find-the-nearest-items", "neighbours.parquet")
    chosen = choose_among(
        metric("chrf"),
        [row["answers"] for row in pools],
        [row["answers"][:2] for row in near],
        [row["similarity"][:2] for row in near],
    )
    name = "choose-among-2-answers-and-2-neighbours"
    assert [row["answer"] for row in result(finished, name, "answers.parquet")] == chosen.texts


def test_what_is_put_together_asks_no_model(finished: Path) -> None:
    items = result(finished, "test-items", "items.parquet")
    learned = result(finished, "training-items", "items.parquet")
    near = result(finished, "find-the-nearest-items", "neighbours.parquet")
    pairs = [row["source"] for row in learned], [row["completion"] for row in learned]
    phrases = Phrases(*pairs)
    said = result(finished, "answer-with-what-is-put-together", "answers.parquet")
    for item, found, answer in zip(items, near, said, strict=True):
        near = found["rows"][:EDITED], found["similarity"][:EDITED]
        made = phrases.candidates(item["source"], *near, edited=EDITED, composed=COMPOSED)
        assert answer["answer"] == made[0].text
    assert len(list(finished.glob("steps/learn-phrases-*"))) == 1  # for test and validation items
    entry = of(finished, "memory/phrases")
    assert (entry.bytes or 0) > (of(finished, "lookup").bytes or 0) > 0
    assert (entry.flops_once, entry.tokens) == (
        pytest.approx(phrases.flops + found_once(finished)),
        0,
    )
    assert (entry.flops_per_item or 0) < (of(finished, "hf:model").flops_per_item or 0)


def found_once(out: Path) -> float:
    lookup = of(out, "lookup")
    assert lookup.flops_once is not None
    return lookup.flops_once


def test_a_selector_learns_on_validation_and_asks_for_a_shortlist(finished: Path) -> None:
    chosen = result(finished, "select-for-hf-model", "answers.parquet")
    short = result(finished, "score-the-shortlist-of-hf-model", "candidates.parquet")
    every = result(finished, "gather-candidates-for-all", "candidates.parquet")
    place = FEATURES.index("logprob")
    for answer, few, pool in zip(chosen, short, every, strict=True):
        assert answer["answer"] in few["texts"] and len(few["texts"]) == min(2, len(pool["texts"]))
        assert set(few["texts"]) <= set(pool["texts"])
        assert all(value < 0 for value in few["features"][place :: len(FEATURES)])
        assert not any(pool["features"][place :: len(FEATURES)])
    learned = list(finished.glob("steps/learn-the-*/selector.json"))
    assert len(learned) == 4  # with and without a model, and both again on top of the states
    told = {"metric": "chrf", "items": 8, "penalty": 0.003, "seed": 3}
    assert [Selector.load(path).learned for path in learned] == [told] * 4
    blind, full = of(finished, "memory/selector without a model"), of(finished, "memory/selector")
    assert (blind.flops_per_item or 0) < (full.flops_per_item or 0)
    assert full.optimised and blind.optimised
    drawn = result(finished, "gather-candidates-for-memory-states", "candidates.parquet")
    at, nearest = FEATURES.index("drawn"), FEATURES.index("source_near")
    near = result(finished, "find-the-nearest-items", "neighbours.parquet")
    for pool, found in zip(every, near, strict=True):  # also where no neighbour is a candidate
        assert max(pool["features"][nearest :: len(FEATURES)]) == found["similarity"][0] > 0
    assert all(any(pool["features"][at :: len(FEATURES)]) for pool in drawn)


def test_rows_that_are_asked_one_by_one_have_the_answers_of_the_run(
    finished: Path, tmp_path: Path
) -> None:
    def items(name: str) -> pa.Table:
        return pa.Table.from_pylist(result(finished, name, "items.parquet"))

    def answered(name: str, **options: Any) -> tuple[list[str], list[str]]:
        asked: dict[str, Any] = {"model": f"hf:{finished.parent / 'model'}", "raw": True}
        asked |= {"prompt": "{prompt}", "max_tokens": 3, "strategy": "greedy"}
        out = tmp_path / f"{name}.parquet"
        answer_all(items("test-items"), out, **asked, **options)
        rows = pq.read_table(out).to_pylist()
        return [row["answer"] for row in rows], [row["stopped_by"] for row in rows]

    def of_run(name: str) -> list[str]:
        return [row["answer"] for row in result(finished, name, "answers.parquet")]

    memory: dict[str, Any] = {"answer": "completion", "group": "group", "form": "<{group}>{source}"}
    known, model = items("training-items"), f"hf:{finished.parent / 'model'}"
    said = answered("phrases", memory=open_memory(known, **memory), phrases=True)
    assert said == (of_run("answer-with-what-is-put-together"), ["phrases"] * 8)
    options: dict[str, Any] = {"shortlist": 2, "raw": True}
    options |= {"memory": open_memory(known, **memory), "out": tmp_path / "selector.json"}
    blind = "selector-of-no-model"  # the same step as the first one for a model
    for uri, first, last, name in (
        (model, blind, "selector-of-hf-model", "select-for-hf-model"),
        (None, None, blind, "select-for-no-model"),
    ):
        learned = learn_selector(items("validation-items"), model=uri, **options)
        assert learned == MemorySelector.load(options["out"])
        assert learned.learned["items"] == 8 and learned.learned["unseen"] > 0
        assert (learned.first is None) == (first is None)
        for mine, its in ((learned.first, first), (learned.selector, last)):
            if mine is not None:
                file = next(finished.glob(f"steps/learn-the-{its}-????????????????/selector.json"))
                assert mine.weights == pytest.approx(Selector.load(file).weights, abs=1e-3)
        given = open_memory(known, **memory, selector=options["out"])
        assert answered(name, memory=given) == (of_run(name), ["selector"] * 8)


def test_a_lookup_costs_its_search_and_its_answers(finished: Path) -> None:
    lookup, control, base = (of(finished, v) for v in ("memory/lookup", "lookup", "hf:model"))
    both = (control.flops_per_item or 0) + (base.flops_per_item or 0)
    assert lookup.flops_per_item == pytest.approx(both)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("validation:", "# validation:"), 'line 10: "least" is chosen on other items than those'),
        (("train: {", "# train: {"), 'line 9: "memory" needs rows to remember'),
        (("shown: 2", "shown: 40"), "at most 16"),
        (("weight: 1.0", "weight: 2.0"), "at most 1"),
    ],
)
def test_mistakes(finished: Path, tmp_path: Path, change: tuple[str, str], said: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.replace(*change), encoding="utf-8")
    with pytest.raises(PomonaError) as told:
        load_recipe(path)
    assert said in str(told.value)
