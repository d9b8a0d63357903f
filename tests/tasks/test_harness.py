"""Tasks of lm-evaluation-harness against the package itself, where it is installed:
`make test-harness`.
"""

from __future__ import annotations

import json
import random
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import pomona
from pomona.errors import PomonaError
from pomona.models import Model, load, locate
from pomona.tasks import Metric

pytest.importorskip("lm_eval", reason="needs lm-eval: make test-harness")
pytestmark = pytest.mark.filterwarnings("ignore")

from pomona.tasks.harness import (  # noqa: E402
    HarnessTask,
    StoredMetric,
    evaluate,
    harness_model,
    harness_task,
)
from pomona.tasks.harness.sums import SUMS, name_of  # noqa: E402

UI = Path(pomona.__file__).parent / "assets" / "ui" / "ui.parquet"
GENERATION = r"""
task: said
output_type: generate_until
training_split: train
test_split: test
num_fewshot: 2
doc_to_text: "<|de|>{{question}}<|to|>"
doc_to_target: answer
fewshot_delimiter: "\n"
target_delimiter: ""
generation_kwargs: {until: ["\n", "."], max_gen_toks: 12}
filter_list:
  - name: first-number
    filter: [{function: regex, regex_pattern: "(\\d)"}, {function: take_first}]
  - name: none
    filter: [{function: take_first}]
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}
  - {metric: bleu, aggregation: bleu, higher_is_better: true}
  - {metric: chrf, aggregation: chrf, higher_is_better: true}
  - {metric: chrf++, aggregation: chrf++, higher_is_better: true}
  - {metric: ter, aggregation: ter, higher_is_better: false}
metadata: {version: 2.0}
"""
CHOICE = """
task: chosen
output_type: multiple_choice
test_split: test
doc_to_text: "<|{{lang}}|>{{english}}<|to|> "
doc_to_choice: options
doc_to_target: answer
target_delimiter: ""
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: acc_bytes, aggregation: mean, higher_is_better: true}
  - {metric: exact_match, aggregation: mean, higher_is_better: true}
  - {metric: f1, aggregation: f1, higher_is_better: true}
  - {metric: mcc, aggregation: matthews_corrcoef, higher_is_better: true}
  - {metric: brier_score, aggregation: brier_score, higher_is_better: false}
"""
COMPLETION = """
task: completed
output_type: loglikelihood
test_split: test
doc_to_text: "<|{{lang}}|>{{english}}<|to|>"
doc_to_target: said
target_delimiter: ""
metric_list:
  - {metric: perplexity, aggregation: perplexity, higher_is_better: false}
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
ROLLING = """
task: read
output_type: loglikelihood_rolling
test_split: test
doc_to_text: ""
doc_to_target: "{{(english + ' ') * (answer * 150 + 1)}}"
metric_list:
  - {metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
  - {metric: byte_perplexity, aggregation: weighted_perplexity, higher_is_better: false}
  - {metric: bits_per_byte, aggregation: bits_per_byte, higher_is_better: false}
"""
# Sums of float32 log-probabilities: two programs agree to their rounding.
LIKELIHOODS = {"brier_score", "perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"}


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def model() -> Model:
    return load("ui-s", dtype="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Path:
    """Task files over local data: real pairs, each with another translation to choose from, and
    every other time with what the model itself says.
    """
    folder = tmp_path_factory.mktemp("harness")
    table = pq.read_table(UI, columns=["lang", "english", "translation"])
    rows = table.filter(np.array(table["lang"]) == "de").slice(0, 1200).to_pylist()[::100]
    prompts = [f"<|de|>{row['english']}<|to|>" for row in rows]
    said = [pool[0].text for pool in model.generate(prompts, max_new_tokens=6)]
    choices = [
        {
            "lang": row["lang"],
            "english": row["english"],
            "options": [row["translation"], other["translation"]][:: 1 - 2 * (at % 2)],
            "answer": at % 2,
            "said": said[at] if at % 2 else row["translation"],
            "project": f"p{at // 3}",
        }
        for at, (row, other) in enumerate(zip(rows, rows[1:] + rows[:1], strict=True))
    ]
    sums = [{"question": f"{a} + {b}", "answer": str(a)} for a in range(1, 4) for b in range(4)]
    for name, lines in {"sums": sums, "shown": sums[::5], "choices": choices}.items():
        text = "\n".join(json.dumps(line) for line in lines)
        (folder / f"{name}.jsonl").write_text(text)
    return folder


@pytest.fixture(scope="module")
def write(folder: Path) -> Callable[..., Path]:
    def write(text: str, name: str = "task", **files: str) -> Path:
        files = files or {"test": "choices"}
        found = {split: str(folder / f"{file}.jsonl") for split, file in files.items()}
        settings = json.dumps({"data_files": found})
        path = folder / f"{name}.yaml"
        path.write_text(f"dataset_path: json\ndataset_kwargs: {settings}\n{text}")
        return path

    return write


@pytest.fixture(scope="module")
def paths(write: Callable[..., Path]) -> dict[str, Path]:
    return {
        "generation": write(GENERATION, "generation", test="sums", train="shown"),
        "choice": write(CHOICE, "choice"),
        "completion": write(COMPLETION, "completion"),
        "rolling": write(ROLLING, "rolling"),
    }


@pytest.fixture(scope="module")
def theirs(paths: dict[str, Path]) -> dict[str, tuple[dict[str, float], list[Any]]]:
    """lm-eval's own numbers with its own backend, and what the model answered there."""
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(locate("ui-s")), dtype="float32", batch_size=4, device="cpu")
    return {name: _simply_evaluated(model, path) for name, path in paths.items()}


def _simply_evaluated(model: Any, path: Path) -> tuple[dict[str, float], list[Any]]:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_defaults=False)
    found = simple_evaluate(model, tasks=[str(path)], task_manager=manager, bootstrap_iters=0)
    assert found is not None
    (numbers,), (samples,) = found["results"].values(), found["samples"].values()
    own = {key: value for key, value in numbers.items() if "," in key and "_stderr" not in key}
    first = samples[0]["filter"]
    return own, [sample["resps"] for sample in samples if sample["filter"] == first]


def _key(metric: str) -> str:
    return metric if "," in metric else f"{metric},none"


@pytest.mark.parametrize("name", ["generation", "choice", "completion", "rolling"])
def test_numbers_are_those_of_lm_eval(
    name: str, paths: dict[str, Path], theirs: Any, model: Model
) -> None:
    task = harness_task(paths[name])
    scores = evaluate(task, model)
    numbers, _ = theirs[name]
    assert {_key(score.metric) for score in scores} == set(numbers)
    for score in scores:
        rounding = score.metric in LIKELIHOODS
        expected = pytest.approx(numbers[_key(score.metric)], abs=1e-9, rel=1e-5 * rounding)
        assert score.value == expected, score.metric
        assert score.ci_low is not None
        assert score.ci_high is not None
        assert score.ci_low <= score.value <= score.ci_high


@pytest.mark.parametrize("name", ["generation", "choice", "completion", "rolling"])
def test_sums_give_lm_evals_aggregation_of_the_same_responses(
    name: str, paths: dict[str, Path], theirs: Any
) -> None:
    task = harness_task(paths[name])
    numbers, responses = theirs[name]
    responses = json.loads(json.dumps(responses))  # as a file would keep them
    ids = task.items.ids
    for metric in task.metrics:
        value = metric.aggregate(metric.statistics(responses, ids).sum(0))
        expected = pytest.approx(numbers[_key(metric.name)], abs=1e-9)
        assert value == expected, metric.name
        assert metric.value(responses, ids) == expected
        some = [5, 2, 2, 9]  # any subset is a sum of rows
        rows = metric.statistics(responses, ids)[some]
        stored = StoredMetric(**json.loads(json.dumps(asdict(metric.stored))))
        assert stored.aggregate(rows.sum(0)) == metric.aggregate(rows.sum(0))
        again = metric.value([responses[i] for i in some], [ids[i] for i in some])
        assert metric.aggregate(rows.sum(0)) == pytest.approx(again, abs=1e-9), metric.name


@pytest.mark.parametrize("name", ["bleu", "chrf", "chrf++", "ter", "matthews_corrcoef", "nanmean"])
def test_an_aggregation_is_a_function_of_sums(name: str, folder: Path) -> None:
    from lm_eval.api.registry import AGGREGATION_REGISTRY

    rows = [json.loads(line) for line in (folder / "choices.jsonl").read_text().splitlines()]
    texts = [
        [row["options"] * (1 + at % 2), row["options"][0] + " a b."] for at, row in enumerate(rows)
    ]
    labels = [(at % 3, at % 4 % 3) for at in range(12)]
    values: Any = {"matthews_corrcoef": labels, "nanmean": [1.0, np.nan, 3.5]}.get(name, texts)
    theirs = AGGREGATION_REGISTRY[name]
    ours = SUMS[name_of(theirs)]
    statistics = ours.rows(values)
    for some in ([0, 1, 2], [2, 2, 0, 2]):
        expected = pytest.approx(theirs([values[i] for i in some]), abs=1e-9)
        assert ours.value(statistics[some].sum(0)) == expected
    assert ours.value(np.stack([statistics[:3].sum(0)] * 2)).shape == (2,)


def test_responses_are_those_of_lm_evals_own_backend(
    paths: dict[str, Path], theirs: Any, model: Model
) -> None:
    said = harness_task(paths["generation"]).answers(model)
    assert said.answers == theirs["generation"][1]
    assert len({text for ((text,),) in said.answers}) > 2
    assert said.spent.flops > 0
    agreed: set[bool] = set()
    for name in ("choice", "completion"):
        ours = harness_task(paths[name]).answers(model)
        for one, other in zip(ours.answers, theirs[name][1], strict=True):
            for ((value, likeliest),), ((expected, greedy),) in zip(one, other, strict=True):
                assert value == pytest.approx(expected, rel=1e-5)
                assert likeliest == greedy
                agreed.add(greedy)
        assert not ours.spent.estimated
        assert ours.spent.prompt_tokens > 100
    assert agreed == {True, False}


def test_lm_eval_takes_our_models(paths: dict[str, Path], theirs: Any, model: Model) -> None:
    asked = harness_model(model)
    numbers, said = _simply_evaluated(asked, paths["generation"])
    assert (numbers, said) == theirs["generation"]
    assert asked.cut == 0


def test_a_prompt_that_is_too_long_loses_its_beginning_where_lm_eval_cuts_it(
    write: Callable[..., Path], model: Model
) -> None:
    from lm_eval.models.huggingface import HFLM

    text = COMPLETION.replace("<|{{lang}}|>", "{{ 'word ' * 600 }}").replace("completed", "long")
    task = harness_task(write(text, "long"), limit=1)
    asked = harness_model(model)
    (ours,) = asked.loglikelihood(task.task.instances)
    their = HFLM(pretrained=str(locate("ui-s")), dtype="float32", batch_size=1, device="cpu")
    (theirs,) = their.loglikelihood(task.task.instances)
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert asked.cut == 1
    assert {score.cut for score in evaluate(task, model)} == {1}
    long = GENERATION.replace("{{question}}", "{{ 'word ' * 600 }}")
    with pytest.raises(PomonaError, match=r"tokens, and ui-s takes 512 with the answer"):
        harness_task(write(long, "long", test="sums", train="shown"), limit=1).answers(model)


def test_documents_become_items(paths: dict[str, Path]) -> None:
    task = harness_task(paths["choice"], group="lang", cluster="project", limit=6)
    first = task.task.eval_docs[0]
    assert len(set(task.items.ids)) == 6
    assert task.items.prompts[0] == f"<|de|>{first['english']}<|to|> "
    assert task.items.completions[0] == first["options"][0]
    assert task.items.options[0] == first["options"]
    assert task.items.request(0).prompt == task.items.prompts[0]
    assert task.items.groups == ["de"] * 6
    assert task.items.clusters == ["p0"] * 3 + ["p1"] * 3
    assert task.needs == "score"
    shown = harness_task(paths["generation"])
    assert shown.items.prompts[0].count("<|to|>") == 3
    assert shown.items.sources[0] == "<|de|>1 + 0<|to|>"
    assert "|task:said|version:2.0|shots:2|chat:no|n:12|sha256:" in shown.signature
    assert harness_task(paths["generation"], shots=0).items.prompts[0] == shown.items.sources[0]


def test_a_fingerprint_is_of_what_is_asked_and_how_it_is_judged(
    folder: Path, write: Callable[..., Path], paths: dict[str, Path]
) -> None:
    first = harness_task(paths["generation"]).fingerprint
    (folder / "moved.jsonl").write_bytes((folder / "sums.jsonl").read_bytes())
    moved = write(GENERATION, "moved", test="moved", train="shown")
    assert harness_task(moved).fingerprint == first
    for change in (
        ("ignore_case: true", "ignore_case: false"),
        ("num_fewshot: 2", ""),
        ("12", "9"),
    ):
        other = write(GENERATION.replace(*change), "other", test="sums", train="shown")
        assert harness_task(other).fingerprint != first
    assert harness_task(paths["generation"], limit=3).fingerprint != first


def test_documents_that_are_there_twice_are_two_items(
    folder: Path, write: Callable[..., Path]
) -> None:
    line = (folder / "choices.jsonl").read_text().splitlines()[0]
    (folder / "twice.jsonl").write_text(f"{line}\n{line}")
    first, second = harness_task(write(CHOICE, "twice", test="twice")).items.ids
    assert second == f"{first}-2"


def test_clusters_are_resampled_together(paths: dict[str, Path], model: Model) -> None:
    task = harness_task(paths["choice"], cluster="project")
    clustered, free = evaluate(task, model)[0], evaluate(harness_task(paths["choice"]), model)[0]
    assert clustered.value == free.value
    assert (clustered.ci_low, clustered.ci_high) != (free.ci_low, free.ci_high)
    assert "bootstrap:clusters:1000" in clustered.signature
    assert "bootstrap:items:1000" in free.signature
    (alone, *_) = evaluate(harness_task(paths["choice"], limit=1), model)
    assert (alone.ci_low, alone.ci_high) == (None, None)


def test_any_model_is_asked_with_stop_strings(paths: dict[str, Path], fake: Any) -> None:
    task = harness_task(paths["generation"])
    asked = fake(lambda *_: "It is 2")
    answered = task.answers(asked)
    assert answered.answers == [[["It is 2"]]] * 12
    assert answered.spent.completion_tokens == 12 * 5
    request, index, temperature = asked.made[0]
    assert (request.stop, request.max_tokens, index, temperature) == (("\n", "."), 12, 0, 0.0)
    scores = {score.metric: score.value for score in evaluate(task, asked)}
    assert scores["exact_match,first-number"] == pytest.approx(4 / 12)
    assert scores["exact_match"] == 0
    assert [request for request, _ in task.requests()] == [made[0] for made in asked.made[:12]]
    metric: Metric = task.metrics[0]  # what a strategy chose: a text an item
    assert metric.reads == "text"
    assert metric.statistics(["2"] * 12, task.items.ids).sum(0).tolist() == [4, 12]


def test_a_text_is_compared_with_all_that_is_right(write: Callable[..., Path]) -> None:
    text = GENERATION.replace("doc_to_target: answer", "doc_to_target: \"{{[answer, 'x']}}\"")
    text = text[: text.index("  - {metric: bleu")]
    task = harness_task(write(text, "several", test="sums", train="shown"), limit=1)
    assert (task.items.completions, task.items.alternatives) == (["1"], [["x"]])
    (first, whole) = task.metrics
    assert [whole.value([said], task.items.ids) for said in ("1", "x", "y")] == [1, 1, 0]
    assert first.value(["say 1"], task.items.ids) == 1


def test_draws_are_as_many_as_the_task_repeats(write: Callable[..., Path], fake: Any) -> None:
    text = GENERATION.replace("max_gen_toks: 12", "do_sample: true, temperature: 0.5")
    text = text.replace(
        "{function: take_first}", "{function: majority_vote}, {function: take_first}"
    )
    text = text.replace("num_fewshot: 2", "repeats: 3")
    task = harness_task(write(text, "votes", test="sums", train="shown"), limit=2)
    asked = fake(lambda _, index, *__: "31"[index > 0])
    assert task.answers(asked, seed=7).answers == [[["3", "1", "1"]]] * 2
    assert sorted(made[1:] for made in asked.made) == [(i // 2, 0.5) for i in range(6)]
    assert asked.made[0][0].seed == 7
    assert asked.made[0][0].max_tokens == 256
    (lead, *_) = evaluate(task, asked)
    assert lead.value == 1


def test_chat_makes_messages_of_the_examples(paths: dict[str, Path], fake: Any) -> None:
    task = harness_task(paths["generation"], chat=True, limit=1)
    asked = fake(lambda *_: "1")
    task.answers(asked)
    roles = [message["role"] for message in asked.made[0][0].messages]
    assert roles == ["user", "assistant", "user", "assistant", "user"]
    assert asked.made[0][0].prompt is None
    assert task.items.request(0).messages == asked.made[0][0].messages
    assert task.items.prompts[0].endswith("<|de|>1 + 0<|to|>")
    with pytest.raises(PomonaError, match="ui-s: has no chat template — ask without chat"):
        harness_task(paths["choice"], chat=True, limit=1).answers(load("ui-s"))


def test_functions_that_a_task_file_names_are_run(
    folder: Path, write: Callable[..., Path], model: Model
) -> None:
    (folder / "own.py").write_text(
        textwrap.dedent(
            """
            import random

            def prompt(document):
                return f"<|de|>{document['question']}<|to|>"

            def shuffled(documents):
                order = list(range(len(documents)))
                random.Random(3).shuffle(order)
                random.random()  # of the state that lm-eval seeds
                return documents.select(order)

            def results(document, responses):
                found = {"length": len(responses[0])}
                return found | ({"rare": 1.0} if document["answer"] == "2" else {})

            def widest(values):
                return max(values)
            """
        )
    )
    text = GENERATION[: GENERATION.index("filter_list")].replace(
        'doc_to_text: "<|de|>{{question}}<|to|>"',
        "doc_to_text: !function own.prompt\n"
        "process_docs: !function own.shuffled\n"
        "process_results: !function own.results\n"
        "metric_list:\n"
        "  - {metric: length, aggregation: !function own.widest, higher_is_better: false}\n"
        "  - {metric: rare, aggregation: mean, higher_is_better: true}\n",
    )
    path = write(text, "functions", test="sums", train="shown")
    before = random.getstate()
    task = harness_task(path)
    assert random.getstate() == before
    numbers, _ = _simply_evaluated(harness_model(model), path)
    length, rare = evaluate(task, model)
    assert (length.value, rare.value) == (numbers["length,none"], numbers["rare,none"])
    assert (length.ci_low, length.higher_is_better) == (None, False)
    with pytest.raises(PomonaError, match=r'length: "widest" is not a function of sums over items'):
        task.metrics[0].statistics(["a"] * 12, task.items.ids)
    assert task.metrics[1].statistics(["a"] * 12, task.items.ids).sum(0).tolist() == [4, 4]


def test_a_model_that_cannot_score_is_refused_by_name(paths: dict[str, Path], fake: Any) -> None:
    message = 'fake: cannot "score" — score with torch: open the checkpoint as hf:PATH'
    for name in ("choice", "completion", "rolling"):
        with pytest.raises(PomonaError, match=message):
            harness_task(paths[name]).answers(fake())
    able = fake(abilities=frozenset({"score"}))
    with pytest.raises(PomonaError, match="fake: stands behind a store or an account"):
        harness_task(paths["choice"]).answers(able)
    with pytest.raises(PomonaError, match=r"chosen: is not answered with text — use HarnessTask"):
        harness_task(paths["choice"]).requests()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("regex,", "regx,"), "cannot be loaded: KeyError: .*Did you mean: regex"),
        (("{{question}}", "{{qestion}}"), "'qestion' is undefined — mend the task file"),
        (("task: said", "group: all"), "generation_bad.yaml"),
        (("num_fewshot: 2", "num_fewshot: {"), "cannot be loaded: while parsing"),
        (("num_fewshot: 2", "unsafe_code: true"), "executes what the model writes — run it where"),
        (("max_gen_toks: 12", "num_beams: 3"), 'generation_kwargs: "num_beams" cannot be asked'),
    ],
)
def test_what_is_wrong_in_a_task_file_is_named(
    change: tuple[str, str], message: str, write: Callable[..., Path], fake: Any
) -> None:
    path = write(GENERATION.replace(*change), "generation_bad", test="sums", train="shown")
    with pytest.raises(PomonaError, match=message):
        harness_task(path).answers(fake())


def test_what_is_asked_for_and_not_there_is_named(
    folder: Path, write: Callable[..., Path], paths: dict[str, Path], model: Model
) -> None:
    with pytest.raises(PomonaError, match=r"nothing.yaml: there is no such file — check the path"):
        harness_task(folder / "nothing.yaml")
    gone = write(CHOICE, "gone", test="gone")
    with pytest.raises(PomonaError, match=r"gone.yaml: its data cannot be loaded: .*gone.jsonl"):
        harness_task(gone)
    far = folder / "far.yaml"
    far.write_text(f"dataset_path: nobody/nothing\n{CHOICE}")
    remedy = "put `dataset_path: json` with local `data_files` into its YAML file"
    with pytest.raises(PomonaError, match=rf"Couldn't reach 'nobody/nothing'.* — {remedy}"):
        harness_task(far)
    with pytest.raises(PomonaError, match=r'no column "langs" — did you mean "lang"\?'):
        harness_task(paths["choice"], group="langs")
    with pytest.raises(PomonaError, match="limit is 0 — give a positive number"):
        harness_task(paths["choice"], limit=0)
    task: HarnessTask = harness_task(paths["choice"], limit=2)
    with pytest.raises(PomonaError, match='chosen: has no item "x" — give ids'):
        task.results(["a"], ["x"])
    with pytest.raises(PomonaError, match="chosen: 1 answer but 2 ids"):
        task.results(["a"], task.items.ids)
    with pytest.raises(PomonaError, match="an answer has 1 responses for 2 requests"):
        task.results(["a"], task.items.ids[:1])
    with pytest.raises(PomonaError, match="its metrics failed: TypeError"):
        task.results([[["a"], [3]]], task.items.ids[:1])


def test_the_example_of_the_document_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "harness.md").read_text()
    blocks = dict(reversed(re.findall(r"```(yaml|json|py)\n(.*?)```", text, re.DOTALL)))
    (tmp_path / "colours.yaml").write_text(blocks["yaml"])
    (tmp_path / "colours.jsonl").write_text(blocks["json"])
    monkeypatch.chdir(tmp_path)
    exec(blocks["py"], {})
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said] == ["acc", "acc_norm"]
    assert said[0].endswith("|ci:0.95|bootstrap:clusters:1000|seed:0")


def test_a_name_is_looked_up_and_the_nearest_named() -> None:
    with pytest.raises(PomonaError, match=r'has no task "hellaswg" — did you mean "hellaswag"\?'):
        harness_task("hellaswg")
    with pytest.raises(PomonaError, match=r'"arc_easy"|"ai2_arc" is a group of 2 tasks — .*arc_'):
        harness_task("ai2_arc")
