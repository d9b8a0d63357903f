"""The markers lever: rows get lists, models infer them or are told, and answers lose theirs."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.recipe.conftest import checkpoint

from pomona.errors import PomonaError
from pomona.ledger import Entry, Ledger
from pomona.markers import (
    Trained,
    read_answer,
    read_list,
    read_taxonomy,
    read_trained,
    write_trained,
)
from pomona.recipe import StepContext, dry_run, load_recipe, run
from pomona.recipe.steps import Runtime
from pomona.recipe.steps.markers import take_lists_off
from pomona.recipe.steps.pools import Pools, write_pools

TAXONOMY = """\
markers:
  topic: {kind: values, column: topic, values: [menu, mail]}
  characters: {kind: integer, measure: characters, listed: false}
  longest: {kind: buckets, of: characters, edges: [9], values: [short, long]}
  quality: {kind: float, listed: false}
  quality_bucket: {kind: buckets, of: quality, within: lang, values: ["1", "2"]}
  lang: {kind: text, column: lang}
"""
RECIPE = """\
name: small
seed: 3
data: {records: rows.jsonl, prompt: "<|{lang}|>{text}<|to|>", completion: "{answer}", group: lang}
task: {where: {split: test}, tail: 0, max_new_tokens: 8, cluster: text, resamples: 1000}
base: hf:model
train: {where: {split: train}, tokens: 400, batch_tokens: 256}
levers:
  markers:
    taxonomy: taxonomy.yaml
    columns: {quality: score}
    fixed: {longest: short, quality_bucket: auto, topic: "{topic}"}
    forced: true
    words: "About {topic}: {prompt}"
  sampling: {strategies: [hedged3-mbr]}
  memory: {lookup: {least: 0.9}}
stacks: [[markers/forced, hedged3-mbr], [markers/fixed, memory/lookup]]
"""
WORDS = ["page", "file", "user", "save", "open", "new", "delete", "all"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("markers")
    checkpoint(folder / "model", 16)
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(48):
            for lang in ("nl", "de"):
                text = f"{WORDS[number % 8]}~|{WORDS[number // 8]}"
                row = {
                    "text": text,
                    "lang": lang,
                    "answer": f"{text[:6]} {lang}" * (1 + number % 2),
                }
                row |= {"topic": ["menu", "mail"][number % 2], "score": number / 48}
                row |= {"split": "test" if number % 4 == 0 else "train"}
                stream.write(json.dumps(row) + "\n")
    (folder / "taxonomy.yaml").write_text(TAXONOMY, encoding="utf-8")
    (folder / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def finished(folder: Path) -> Path:
    return run(folder / "recipe.yaml", folder / "run")


def results(out: Path, name: str) -> Iterator[Path]:
    return out.glob(f"steps/{name}-{'[0-9a-f]' * 16}")


def items(out: Path, name: str) -> dict[str, dict[str, Any]]:
    (result,) = results(out, name)
    return {row["id"]: row for row in pq.read_table(result / "items.parquet").to_pylist()}


def of(out: Path, variant: str) -> Entry:
    ledger = Ledger.read(out / "ledger.json")
    return next(e for e in ledger.of("overall") if e.variant == variant)


def test_systems_are_entries_beside_their_control(finished: Path) -> None:
    ledger = Ledger.read(finished / "ledger.json")
    mine = [e for e in ledger.of("overall") if e.lever == "markers"]
    names = [f"markers/{name}" for name in ("none", "words", "inferred", "fixed", "forced")]
    assert list(dict.fromkeys(e.variant for e in mine)) == names
    against = {e.baseline for e in mine if e.variant == "markers/fixed"}
    assert {"hf:model", "markers/none", "markers/words"} <= against
    stacked = {e.variant for e in ledger.of("overall") if e.lever == "stack"}
    assert stacked == {"markers/forced + hedged3-mbr", "markers/fixed + memory/lookup"}
    inferred, none = of(finished, "markers/inferred"), of(finished, "markers/none")
    assert inferred.tokens == pytest.approx(none.tokens, abs=60)


def test_rows_are_trained_on_with_lists_behind_the_whole_prompt(finished: Path) -> None:
    bare, listed = (
        items(finished, "training-items"),
        items(finished, "write-lists-into-training-items"),
    )
    taxonomy = read_taxonomy(finished.parent / "taxonomy.yaml")
    for id_, row in listed.items():
        asked, answer = bare[id_]["prompt"].replace("~|", r"~\|"), bare[id_]["completion"]
        values, rest = read_answer(row["completion"], taxonomy, "compact")
        assert values is not None and rest == answer
        assert values["lang"] == bare[id_]["group"]
        assert values["longest"] == ("long" if len(answer) >= 9 else "short")
        assert set(values) == {"topic", "longest", "quality_bucket", "lang"}
        assert row["prompt"] == asked or row["prompt"].startswith(f"{asked}~|")
    shown = [row for row in listed.values() if not row["prompt"].endswith("<|to|>")]
    assert 0.25 < len(shown) / len(listed) < 0.75


def test_a_checkpoint_says_with_which_markers_it_was_trained(finished: Path) -> None:
    (made,) = results(finished, "fine-tune-markers")
    trained = read_trained(made / "model")
    assert trained.form == "compact" and trained.auto["quality_bucket"]["nl"] == "1"
    (without,) = results(finished, "fine-tune-markers-none")
    with pytest.raises(PomonaError, match="was not trained with markers"):
        read_trained(without / "model")


def test_items_are_asked_with_what_is_fixed_with_nothing_or_in_words(finished: Path) -> None:
    told = (items(finished, name) for name in ("show-lists", "show-no-list", "say-it-in-words"))
    listed, bare, words = told
    for id_, row in items(finished, "test-items").items():
        asked = row["prompt"].replace("~|", r"~\|")
        topic = "ab".index(listed[id_]["prompt"].rpartition("~|")[2][1])
        assert (
            listed[id_]["prompt"] == f"{asked}~| {'ab'[topic]} c e x"
        )  # short, and the best quality
        assert bare[id_]["prompt"] == asked
        assert words[id_]["prompt"] == f"About {['menu', 'mail'][topic]}: {row['prompt']}"


def test_answers_are_begun_with_what_is_fixed(finished: Path) -> None:
    (begun,) = results(finished, "begin-answers-with-lists")
    taxonomy = read_taxonomy(finished.parent / "taxonomy.yaml")
    prompts = {id_: row["prompt"] for id_, row in items(finished, "show-lists").items()}
    rows = pq.read_table(begun / "begun.parquet").to_pylist()
    assert [row["id"] for row in rows] == list(prompts)
    said = {row["id"]: row for row in pq.read_table(begun / "inferred.parquet").to_pylist()}
    for row in rows:
        values, rest = read_answer(row["prefix"], taxonomy, "compact")
        given = read_list(prompts[row["id"]].rpartition("~|")[2], taxonomy, "compact")
        assert values and given and not rest and values.items() >= given.items()
        assert {name: said[row["id"]][name] for name in values} == values


def test_serving_counts_the_lists(finished: Path) -> None:
    names = ("none", "inferred", "fixed", "forced")
    none, inferred, fixed, forced = (of(finished, f"markers/{n}").flops_per_item for n in names)
    assert none and inferred and fixed and forced
    assert none < inferred < fixed < forced  # which is asked twice
    steps = {row["step"]: row for row in dry_run(finished.parent / "recipe.yaml", finished).rows()}
    assert steps["evaluate markers/none"]["flops"] < steps["sample greedy"]["flops"]
    assert steps["evaluate markers/none"]["completion_tokens"] == 24 * 8


@pytest.fixture
def trained_step(folder: Path, tmp_path: Path) -> StepContext:
    """A step that reads pools of two items, of a model that was trained with the taxonomy."""
    out, pools, lists = (tmp_path / name for name in ("out", "pools", "lists"))
    for place in (out, pools, lists):
        place.mkdir()
    taxonomy = read_taxonomy(folder / "taxonomy.yaml")
    write_trained(lists, Trained(taxonomy, "compact"))
    columns = {
        "id": ["a", "b"],
        "prompt_tokens": [3, 4],
        "answers": [["b c x nl|Seite", "b|Seite"], ["x x x x|Seite", "b x x x|Seite"]],
        "tokens": [[5, 2], [4, 4]],
        "logprobs": [[-1.0, -2.0], [-3.0, -4.0]],
    }
    write_pools(pools, columns, Pools(1.0, None, [0.0, 0.7]))
    inputs = {"pools": pools, "lists": lists}
    return StepContext({}, inputs, out, tmp_path, Runtime(), lambda *_: None)


def test_answers_lose_their_lists_and_keep_their_costs(trained_step: StepContext) -> None:
    take_lists_off(trained_step)
    (first, second) = pq.read_table(trained_step.out / "pools.parquet").to_pylist()
    assert first["answers"] == ["Seite", "b|Seite"] and second["answers"] == ["Seite", "Seite"]
    assert (first["tokens"], second["logprobs"]) == ([5, 2], [-3.0, -4.0])
    assert json.loads((trained_step.out / "pools.json").read_text())["distinct"] == 0.75
    told = pq.read_table(trained_step.out / "inferred.parquet").to_pylist()
    assert [row["listed"] for row in told] == [True, False, True, True]
    assert [row["topic"] for row in told] == ["mail", None, None, "mail"]
    assert (told[0]["longest"], told[0]["lang"], told[3]["lang"]) == ("short", "nl", None)


def test_a_table_says_what_was_inferred_and_what_became_of_wishes(finished: Path) -> None:
    """As if every second item had been inferred rightly, and one answer of three were short."""
    reference = results(finished, "tag-test-items")
    tags = {row["id"]: row for row in pq.read_table(next(reference) / "tags.parquet").to_pylist()}
    wrong = {"menu": "mail", "mail": "menu"}
    for result in results(finished, "take-lists-off-sample-greedy"):
        table = pq.read_table(result / "inferred.parquet")
        told = [tags[id_]["marker_topic"] for id_ in table["id"].to_pylist()]
        told = [one if place % 2 else wrong[one] for place, one in enumerate(told)]
        columns = {"listed": [True] * len(told), "topic": told}
        for name, values in columns.items():
            at = table.schema.get_field_index(name)
            table = table.set_column(at, name, pa.array(values))
        pq.write_table(table, result / "inferred.parquet")
    run(finished.parent / "recipe.yaml", finished)
    with (finished / "markers.csv").open(encoding="utf-8") as stream:
        rows = {(row["system"], row["marker"]): row for row in csv.DictReader(stream)}
    topic = rows["markers/inferred", "topic"]
    assert (topic["listed"], topic["inferred"], topic["repeated"]) == ("1.0", "0.5", "")
    assert 0 < float(topic["inferred_low"]) < 0.5 < float(topic["inferred_high"]) < 1
    assert rows["markers/fixed", "topic"]["repeated"] == "0.5"
    longest = rows["markers/none", "longest"]
    assert float(longest["kept"]) + float(longest["above"]) == 1 and longest["below"] == "0.0"
    assert rows["hf:model", "longest"]["given"] == "False" and not longest["listed"]
    notes = Ledger.read(finished / "ledger.json").meta.notes
    assert any("markers/inferred: 100.0% of its answers began with a list" in n for n in notes)
    assert "markers.csv" in (finished / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("longest: short", "longst: short", 'line 11: marker "longst" is none of the taxonomy'),
        ("longest: short", "characters: 3", "stands in no list"),
        ("longest: short", "longest: shrt", 'none of its values — did you mean "short"?'),
        ("longest: short", "longest: auto", 'has no "auto"'),
        ("{quality: score}", "{quality: scores}", 'no column "scores" — did you mean "score"?'),
        ("{quality: score}", "{qualty: score}", 'no marker "qualty" — did you mean "quality"?'),
        ("{quality: score}", "{}", 'nothing says "quality_bucket"'),
        ('"{topic}"}', '"{topics}"}', 'no column "topics" — did you mean "topic"?'),
        ("About {topic}", "About {topc}", 'no column "topc"'),
        ("{quality: score}", "{quality: score, topic: lang}", "'de', which is none of its values"),
        ("{quality: score}", "{quality: topic}", '"quality" from column "topic" is'),
        ("About {topic}", "About {topic} in {", "cannot be read: unmatched"),
        ('topic: "{topic}"}', 'topic: "{lang}"}', '"topic" from column "lang"'),
        ("taxonomy.yaml", "taxonomy.yaml\n    dataset_dropout: 1", "where a dropout is 1"),
        ("fixed: {longest: short,", "fixed: {} #", "and nothing is"),
        ("train: {where: {split: train}, tokens: 400, batch_tokens: 256}\n", "", 'needs "train"'),
        ("base: hf:model", "base: http://localhost:1/v1#m", '("train")'),
        ("taxonomy: taxonomy", "taxonomy: taxonmy", "taxonmy.yaml"),
    ],
)
def test_mistakes_have_a_line_and_a_reason(folder: Path, old: str, new: str, told: str) -> None:
    assert old in RECIPE
    path = folder / "wrong.yaml"
    path.write_text(RECIPE.replace(old, new), encoding="utf-8")
    with pytest.raises(PomonaError) as caught:
        load_recipe(path)
    assert told in str(caught.value)
    assert "line " in str(caught.value) or "taxonmy" in told


@pytest.mark.parametrize(
    ("strategy", "told"),
    [
        ("sample4-vote-stop0.6", "compares answers while they are drawn"),
        ("hedged3-xmbr", "asks for more answers"),
        ("hedged3-chops", "is judged by the model that answers"),
        ("prune/top", "cannot be trained again"),
        ("context/think", "come between a prompt and its list"),
    ],
)
def test_what_cannot_stand_on_lists_is_refused(folder: Path, strategy: str, told: str) -> None:
    path = folder / "refused.yaml"
    text = RECIPE.replace("[[markers/forced, hedged3-mbr]", f"[[markers/forced, {strategy}]")
    path.write_text(
        text.replace(
            "levers:\n", "levers:\n  context: {think: true}\n  data: {keep: 0.5, by: length}\n"
        )
    )
    with pytest.raises(PomonaError, match=told):
        dry_run(path, folder / "never")


def test_a_student_of_written_rows_is_trained_on_with_lists(folder: Path, tmp_path: Path) -> None:
    """What was written is learnt first, and lists from the rows that are there."""
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()[:40]]
    kept = [
        row for row in rows if (row["lang"], row["split"], row["topic"]) != ("nl", "train", "mail")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    head, levers = RECIPE.replace("tokens: 400", "tokens: 200").split("levers:\n")
    own = levers[: levers.index("    forced:")].replace("taxonomy.yaml", f"{folder}/taxonomy.yaml")
    (tmp_path / "stack.yaml").write_text(
        f"{head.replace('hf:model', f'hf:{folder}/model')}levers:\n{own}"
        "  synthesis:\n    teachers:\n"
        "      loud: {programs: [{group: nl, command: [tr, a-z, A-Z]}]}\n"
        "    policies: [single]\n    groups: [nl]\n    generations: 6\n"
        "stacks: [[synthesis/single loud, markers/fixed]]\n"
    )
    out = run(tmp_path / "stack.yaml", tmp_path / "run")
    stacked = "synthesis/single loud + markers/fixed"
    assert {of(out, stacked).variant} == {stacked}
    (made,) = results(out, "fine-tune-markers-from-synthesis-single-loud")
    assert read_trained(made / "model").form == "compact"
