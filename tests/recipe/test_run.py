from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from tests.recipe.runs import Log, Touching, edit

from pomona.errors import PomonaError
from pomona.files import write_into
from pomona.forget import compare
from pomona.ledger import Ledger, print_table
from pomona.recipe import answers_at, answers_of, dry_run, measured_at, run, systems_of
from pomona.recipe.running import _planned
from pomona.recipe.steps.tables import rarest
from pomona.stats import value_of
from pomona.tasks import metric


def test_a_run_lies_in_no_input(project: Path) -> None:
    with pytest.raises(PomonaError, match=r"model/run: lies in .*model, which is an input"):
        dry_run(project / "recipe.yaml", project / "model/run")


def test_own_model_without_a_ladder(project: Path) -> None:
    edit(project, "seed: 3", "seed: 3\ndtype: float32")
    out = run(project / "recipe.yaml", project / "run")
    ledger = Ledger.read(out / "ledger.json")
    overall = {e.variant: e for e in ledger.of("overall") if e.baseline == "hf:model"}
    assert set(overall) == {
        "hf:model", "all data", "prune/random", "prune/bottom", "prune/middle", "prune/top",
        "mixed", "merge/linear", "merge/ties", "hedged3-mbr", "hedged3/hope", "hedged3/risk",
        "copy", "lookup", "consensus5", "hedged3/random",
    }  # fmt: skip
    assert all(e.scale_equivalent is None for e in ledger.entries)
    assert {e.group for e in ledger.entries} == {
        "overall", "head", "tail", "middle", "far", "de", "fr", "af",
    }  # fmt: skip
    assert [g.group for g in ledger.meta.groups if g.tail] == ["af"]
    assert {e.baseline for e in ledger.of("overall") if e.variant == "prune/top"} == {
        "hf:model",
        "prune/random",
    }
    chance = overall["hedged3/random"]
    assert chance.flops_per_item < overall["hedged3-mbr"].flops_per_item
    assert {e.baseline for e in ledger.of("overall") if e.variant == "hedged3-mbr"} == {
        "hf:model",
        "hedged3/random",
    }
    assert overall["hedged3/hope"].value >= chance.value >= overall["hedged3/risk"].value
    hope, mbr, risk = (overall[f"hedged3{k}"].value for k in ("/hope", "-mbr", "/risk"))
    assert hope >= mbr >= risk
    assert overall["hedged3-mbr"].flops_once == 0
    ours, base = overall["hedged3-mbr"], overall["hf:model"]
    assert (ours.tokens_per_item or 0) > (chance.tokens_per_item or 0) > 0
    assert (ours.seconds_per_item or 0) > 0 and base.seconds_once == 0
    assert ours.bytes == base.bytes == (project / "model/model.safetensors").stat().st_size
    # Nobody said what a token costs here; where no model is asked, none is paid for.
    assert base.money_per_item is None and overall["copy"].money_per_item == 0
    assert overall["all data"].money_once is None and (overall["all data"].tokens or 0) > 0
    assert (overall["prune/top"].tokens or 0) > 1.4 * (
        overall["prune/random"].tokens or 0
    )  # only the bands pay for the scores
    experts = overall["merge/linear"].tokens
    assert experts == pytest.approx(overall["mixed"].tokens, rel=0.4)
    assert all(e.ci_low <= e.delta <= e.ci_high for e in overall.values())
    for name in ("report.html", "picture.svg", "manifest.json", "recipe.yaml"):
        assert (out / name).stat().st_size > 0
    # The recipe's dtype is float32, whatever this processor has.
    trained_in = json.loads((out / "manifest.json").read_text())["trained_in"]
    assert {"fine-tune all data", "fine-tune expert german"} <= set(trained_in)
    assert set(trained_in.values()) == {"float32"}
    assert "Training computed in float32." in ledger.meta.notes
    summary = next(out.glob("steps/fine-tune-mixed-*/model/training.json"))
    assert json.loads(summary.read_text())["dtype"] == "float32"
    check_answers(out, ledger)


def check_answers(out: Path, ledger: Ledger) -> None:
    """What the best system costs whom, and the answers that this is counted in."""
    told = {each.part: each for each in ledger.meta.exchange}
    assert list(told) == ["overall", "tail", "far"]
    best = told["overall"].variant
    assert len(systems_of(out)) == 16 and systems_of(out)[best] == [3 if "/" in best else 0]
    sides = [answers_of(out, role) for role in ("base", "best")]
    assert sides[1].equals(answers_of(out, best))
    assert set(sides[0].column_names) == {
        "id", "group", "input", "prediction", "reference", "resource", "distance",
    }  # fmt: skip
    texts = [side["prediction"].to_pylist() for side in sides]
    measure = metric("chrf")
    scores = [
        measure.aggregate(measure.statistics(t, sides[0]["reference"].to_pylist())) for t in texts
    ]
    for part, column in (("overall", None), ("tail", "resource"), ("far", "distance")):
        rows = np.array(
            [column is None or one == part for one in sides[0][column or "id"].to_pylist()]
        )
        each, gains = told[part], (scores[1] - scores[0])[rows]
        assert (each.n, each.gained, each.lost) == (
            rows.sum(),
            (gains > 0).sum(),
            (gains < 0).sum(),
        )
        entry = next(e for e in ledger.of(part) if (e.variant, e.baseline) == (best, "hf:model"))
        assert (each.gain, each.low) == (entry.delta, entry.ci_low)
    compared = compare(*sides, group="resource", metric="chrf")
    assert compared.a == f"{out}#hf:model"
    assert compared.groups["tail"].metric_difference == pytest.approx(told["tail"].gain)
    assert answers_at(f"{out}#{best}").equals(sides[1]) and answers_at("x#y") == "x#y"
    for name, message in (
        ("basis", r'has no system "basis" — did you mean "base"\?'),
        (f"{best}#7", "was not trained with seed 7 — known: "),
    ):
        with pytest.raises(PomonaError, match=message):
            answers_at(f"{out}#{name}")
    with pytest.raises(PomonaError, match=r"is a run — name a system of it: .*#base, .*#best"):
        answers_at(str(out))
    for inside in ("", "steps"):
        with pytest.raises(PomonaError, match=r"lies in .*run.*, which is --page: nothing else"):
            compare(*sides, page=out / inside)
    page = (out / "report.html").read_text()
    assert f"What did {best} cost, and whom?" in page
    check_measured(out, ledger)
    text = io.StringIO()
    print_table(ledger, console=Console(file=text, width=160))
    last = text.getvalue().splitlines()[-4:]
    assert last[0].startswith(f"What did {best} cost the tail and the far? Items answered better")
    assert last[3].startswith(f"  far: {told['far'].gained} better, {told['far'].lost} worse of")
    whole = json.loads((out / "manifest.json").read_text())
    controls = whole["recipe"]["controls"]
    for changed in (
        {},
        {"answers": whole["answers"] | {"systems": {best: {}}}},
        {"recipe": whole["recipe"] | {"controls": controls | {"near": "far"}}},
    ):
        told_of = {**whole, **changed} if changed else {}
        (out / "manifest.json").write_text(json.dumps(told_of))
        with pytest.raises(PomonaError, match="does not say which of its steps hold the answers"):
            answers_of(out, "base")


def check_measured(out: Path, ledger: Ledger) -> None:
    """The statistics of a run are those of its ledger, as instruments read them."""
    (told, other) = measured_at([str(out), "table.csv"])
    assert other == "table.csv" and not isinstance(told, str)
    assert next(each.size for each in told.systems if each.kind == "data") == "hf:model"
    for part in ("overall", "tail", "far", "af"):
        values = {e.variant: e.value for e in ledger.of(part)}
        for place, each in enumerate(told.systems):
            statistics = told.statistics[place, 0][:, told.parts[part]]
            name = each.size if each.kind == "scale" else each.lever
            assert value_of(told.metrics[0], statistics) == pytest.approx(values[name])


def test_one_result_under_two_names_is_said_to_be_one(project: Path) -> None:
    recipe = project / "recipe.yaml"
    text = recipe.read_text().split("levers:")[0]
    recipe.write_text(
        text + "levers: {data: {keep: 0.4, by: {length: [top]}, dedup: {threshold: 1.0}}}\n"
    )
    notes = Ledger.read(run(recipe, project / "run") / "ledger.json").meta.notes
    told = [note for note in notes if note.startswith("No item tells these apart")]
    assert any({"all data", "dedup/minhash"} <= set(re.split(r"[:,.] ?", note)) for note in told)


def test_small_pools_are_the_beginnings_of_large_ones(project: Path) -> None:
    def measured(*strategies: str) -> dict[str, tuple[float, float]]:
        text = (project / "recipe.yaml").read_text().split("levers:")[0]
        levers = f"levers: {{sampling: {{strategies: [{', '.join(strategies)}]}}}}\n"
        (project / "recipe.yaml").write_text(text + levers)
        out, log = project / "-".join(strategies), Log()
        ledger = Ledger.read(run(project / "recipe.yaml", out, progress=log) / "ledger.json")
        drawn.append([name for name in log.done if name.startswith("sample ")])
        return {
            e.variant: (e.value, e.flops_per_item)
            for e in ledger.of("overall")
            if e.lever == "sampling"
        }

    drawn: list[list[str]] = []
    both, small = measured("hedged4-mbr", "hedged3-mbr", "hedged4-best"), measured("hedged3-mbr")
    assert drawn == [["sample hedged4"], ["sample hedged3"]]
    added = ("hedged4-mbr", "hedged4-best", "hedged4/random", "hedged4/hope", "hedged4/risk")
    assert both == small | {name: both[name] for name in added}
    assert both["hedged4-best"][1] == both["hedged4-mbr"][1] > both["hedged3-mbr"][1]


def test_several_training_seeds_are_in_the_intervals(project: Path) -> None:
    recipe, log = project / "recipe.yaml", Log()
    edit(project, "learning_rate: 1.0e-3", "learning_rate: 1.0e-3, seeds: 2")
    edit(project, "keep: 0.4", "keep: 0.4, by: {length: [top]}")
    edit(project, "    experts:", "    methods: [linear]\n    experts:")
    ledger = Ledger.read(run(recipe, project / "run", progress=log) / "ledger.json")
    seeds = {e.variant: e.seeds for e in ledger.of("overall")}
    assert (seeds["prune/top"], seeds["merge/linear"], seeds["hf:model"], seeds["hedged3-mbr"]) == (
        2,
        2,
        1,
        1,
    )
    assert {
        "fine-tune all data seed 3",
        "fine-tune all data seed 4",
        "select random seed 4",
        "select top",
    } <= set(log.done)
    assert (
        "Intervals resample test items and, for what is fine-tuned, its 2 training seeds."
        in ledger.meta.notes
    )
    assert systems_of(project / "run")["prune/top"] == [3, 4]
    of = [answers_of(project / "run", "prune/top", seed) for seed in (3, 4, None)]
    assert of[0].equals(of[2])
    told = of[1].schema.metadata
    assert told[b"pomona.name"] == f"{project / 'run'}#prune/top#4".encode()
    assert told[b"pomona.system"] == b"prune/top#4"  # what votes on its pairs call it
    assert str(project / "run/ledger.json") in json.loads(told[b"pomona.files"])
    assert answers_at(f"{project / 'run'}#prune/top#4").equals(of[1])


def test_experts_by_rows_searched_weights_and_leaving_one_out(project: Path) -> None:
    recipe = project / "recipe.yaml"
    rows = [
        json.loads(line) | {"kind": "abc"[number % 3]}
        for number, line in enumerate((project / "rows.jsonl").read_text().splitlines())
    ]
    (project / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe.write_text(
        recipe.read_text().split("levers:")[0]
        + """levers:
  merging:
    experts: {a: {kind: a}, b: {kind: b}, c: {kind: [c]}}
    methods: [{method: ties, parameters: {density: 0.5}}, model_stock]
    search: {merge: task_arithmetic, method: random, trials: 4, where: {split: train}, per_group: 5}
    leave_one_out: true
"""
    )
    log = Log()
    out = run(recipe, project / "run", progress=log)
    against = {(e.variant, e.baseline) for e in Ledger.read(out / "ledger.json").of("overall")}
    assert {
        ("merge/ties density=0.5", "mixed"),
        ("merge/model_stock", "mixed"),
        ("merge/task_arithmetic by random", "mixed"),
    } <= against
    assert {
        (f"merge/ties density=0.5 without {name}", "merge/ties density=0.5") for name in "abc"
    } <= against
    document = json.loads(next(out.glob("steps/search*/search.json")).read_text())
    losses = [trial["loss"] for trial in document["trials"]]
    assert len(losses) == 4
    assert document["best"] == document["trials"][losses.index(min(losses))]["weights"]
    parts = {
        name: pq.read_table(next(out.glob(f"steps/items-of-{name}-*/items.parquet"))).num_rows
        for name in ("a", "b", "c", "all")
    }
    assert parts["all"] == parts["a"] + parts["b"] + parts["c"] == 120


def test_deduplication_and_upsampling_beside_all_data(project: Path) -> None:
    recipe = project / "recipe.yaml"
    rows = project / "rows.jsonl"
    rows.write_text(
        rows.read_text() + rows.read_text().replace("page", "PAGE")
    )  # each row twice, but for letter case
    levers = (
        "  data: {keep: 0.4, by: {perplexity: [top]}, dedup: {threshold: 0.7}, upsample: "
        "{share: 0.6, last: [0.2, 0.4]}}\n"
    )
    recipe.write_text(recipe.read_text().split("levers:")[0] + "levers:\n" + levers)
    out = run(recipe, project / "run")
    entries = Ledger.read(out / "ledger.json").of("overall")
    assert {
        (e.variant, e.baseline) for e in entries if e.variant.startswith(("dedup", "upsample"))
    } == {
        *(("dedup/minhash", b) for b in ("hf:model", "all data", "dedup/random")),
        ("dedup/random", "hf:model"),
        *((f"upsample/last {n} %", b) for n in (20, 40) for b in ("hf:model", "all data")),
    }
    removed = json.loads(next(out.glob("steps/deduplicate-*/removed.json")).read_text())
    assert sum(removed.values()) >= 120
    spent = {e.variant: e.tokens or 0 for e in entries if e.baseline == "hf:model"}
    assert all(
        1500 <= spent[name] < 1500 + 512
        for name in ("upsample/last 20 %", "all data", "dedup/minhash")
    )  # less than a batch over


def test_several_scores_over_checkpoints(
    project: Path, make_checkpoint: Callable[[Path, int], Path]
) -> None:
    make_checkpoint(project / "early", 8)
    recipe = project / "recipe.yaml"
    by = "{perplexity: [middle], cat_diff: [top], memorization: [bottom]}"
    levers = f"  data: {{keep: 0.5, by: {by}, checkpoints: [hf:early, hf:model], memorize: 3}}"
    recipe.write_text(recipe.read_text().split("levers:")[0] + f"levers:\n{levers}\n")
    out = run(recipe, project / "run")
    entries = Ledger.read(out / "ledger.json").of("overall")
    variants = {
        "prune/random",
        "prune/perplexity middle",
        "prune/cat_diff top",
        "prune/memorization bottom",
    }
    assert {e.variant for e in entries if e.variant.startswith("prune")} == variants
    tables = [pq.read_table(path) for path in sorted(out.glob("steps/score*/scores.parquet"))]
    assert sorted(name for table in tables for name in table.column_names if name != "id") == [
        "cat_diff",
        "memorization",
        "perplexity",
    ]
    sizes = {}
    for path in out.glob("steps/select*/items.parquet"):
        table = pq.read_table(path)
        sizes[path.parent.name] = sum(
            len((a + b).encode())
            for a, b in zip(*(table[c].to_pylist() for c in ("prompt", "completion")), strict=True)
        )
    assert max(sizes.values()) - min(sizes.values()) < 60  # bytes: within a row of each other


def test_a_changed_recipe_redoes_only_what_changed(project: Path) -> None:
    recipe = project / "recipe.yaml"
    first, again, changed = Log(), Log(), Log()
    text = recipe.read_text().split("levers:")[0]
    recipe.write_text(
        text + "levers:\n  data: {keep: 0.4, by: {length: [top]}}\n"
        "  sampling: {strategies: [hedged3-mbr]}\n"
    )
    run(recipe, project / "run", progress=first)
    run(recipe, project / "run", progress=again)
    edit(project, "hedged3", "hedged2")
    run(recipe, project / "run", progress=changed)
    assert (first.skipped, again.done) == ([], [])
    assert sorted(changed.done) == sorted(name for name in changed.planned if "hedged2" in name)
    assert "sample hedged2" in changed.done
    before = (project / "run/ledger.json").read_bytes()
    for name in ("recipe.yaml", "rows.jsonl"):
        with pytest.raises(PomonaError, match=rf"{name}: an input was changed .* nothing is"):
            run(recipe, project / "run", progress=Touching(project / name))
    assert (project / "run/ledger.json").read_bytes() == before


def test_a_ladder_gives_scale_equivalents_and_what_it_took_where_that_is_known(
    project: Path, make_checkpoint: Callable[[Path, int], Path]
) -> None:
    """Of four sizes one is the base, one has its tokens in the recipe, one a summary of another
    program, and one says nothing of its training.
    """
    for name, hidden in (("large", 32), ("foreign", 40), ("silent", 48)):
        make_checkpoint(project / name, hidden)
    (project / "foreign/training.json").write_text('{"flops": "a lot", "epochs": 3}')
    recipe = project / "recipe.yaml"
    text = recipe.read_text()
    ladder = "[hf:model, {model: hf:large, tokens: 1000}, hf:foreign, hf:silent]"
    text = text[: text.index("train:")] + f"base: hf:model\nladder: {ladder}\n"
    recipe.write_text(text.replace("tail: 1", "tail: 2"))
    ledger = Ledger.read(run(recipe, project / "run") / "ledger.json")
    overall = {e.variant: e for e in ledger.of("overall")}
    sizes = {rung.variant: rung.parameters for rung in ledger.meta.rungs}
    for entry in (e for e in ledger.entries if e.lever == "scale"):
        ratio = sizes[entry.variant] / sizes["hf:model"]
        assert entry.scale_equivalent is not None
        assert str(entry.scale_equivalent) == f"×{ratio:.2f}"  # no estimate: no interval
    large = overall["hf:large"]
    assert large.tokens == 1000
    assert large.flops_once is not None
    assert large.flops_once > 0
    assert large.seconds is None
    for name in ("hf:foreign", "hf:silent"):
        assert (overall[name].flops_once, overall[name].tokens) == (None, None)
        assert ledger.extra(overall[name]) is None
    # Nothing is trained here, so groups are counted in test items: of 30 de has 15, fr 12, af 3.
    assert [(g.train_examples, g.tail) for g in ledger.meta.groups] == [
        (None, False),
        (None, True),
        (None, True),
    ]
    assert sum(g.test_items or 0 for g in ledger.meta.groups) == 30
    assert (
        "Tail, the groups with the fewest test items (nothing is trained here): af, fr."
        in ledger.meta.notes
    )
    # A model of random weights answers worse than its prompts do.
    assert ledger.meta.copying["overall"] > overall["hf:model"].value
    page = (project / "run/report.html").read_text(encoding="utf-8")
    assert "no better than copying the source" in page


@pytest.mark.parametrize(
    ("counts", "number", "rare"),
    [
        ({"a": 9, "b": 5, "c": 5, "d": 1}, 1, ["d"]),
        ({"a": 9, "b": 5, "c": 5, "d": 1}, 2, ["d", "b", "c"]),  # b and c tie
        ({"a": 5, "b": 5, "c": 5, "d": 1}, 2, ["d"]),  # with the tie, no head would be left
        ({"a": 5, "b": 5, "c": 5}, 1, []),
        ({"a": 9, "b": 5}, 0, []),
        ({"a": 9, "b": 5}, 2, []),
    ],
)
def test_ties_are_not_cut_by_the_alphabet(
    counts: dict[str, int], number: int, rare: list[str]
) -> None:
    assert rarest(counts, number) == rare
    assert rarest(dict(reversed(counts.items())), number) == rare


def test_a_dry_run_writes_nothing_and_counts_what_is_left(project: Path) -> None:
    plan = dry_run(project / "recipe.yaml", project / "run")
    assert not (project / "run").exists()
    rows = plan.rows()
    assert all(row["state"] == "to do" for row in rows)
    assert plan.totals()["flops"] == pytest.approx(sum(row["flops"] for row in rows))
    assert next(row for row in rows if row["step"] == "fine-tune mixed")["flops"] > 0


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("base: hf:model", "base: hf:modle", "modle"),
        (
            "records: rows.jsonl",
            "records: row.jsonl",
            r'"row.jsonl" is no table of the catalogue and no file — did you mean "rows.jsonl"\?',
        ),
        ("group: group}", "group: grup}", r'there is no column "grup" — did you mean "group"\?'),
        (
            "group: group}",
            'group: group, prompt: "{promt}"}',
            r'there is no column "promt" — did you mean "prompt"\?',
        ),
        (
            "german: [de, af]",
            "german: [de, xx]",
            r'experts.german: group "xx" has no items — known: af, de, fr',
        ),
        (
            "group: group}",
            "group: group, groups: [de, fr, af, frr]}",
            r'group "frr" has no items — did you',
        ),
        (
            "{split: test}",
            "{split: tset}",
            r'rows.jsonl, test items: no row has "tset" in the column "split" — did you mean "test"',
        ),
        ("{split: test}", "{split: [test, vaild]}", r'no row has "vaild" in the column "split"'),
        ("{split: train}", "{split: trian}", r'training items: no row has "trian"'),
        (
            "{split: train}",
            "{split: train, prompt: nothing}",
            r'has "nothing" in the column "prompt" — one of 150 values, such as .*, .*, ',
        ),
        ("{split: test}", "{splt: test}", r'there is no column "splt" — did you mean "split"\?'),
        (
            "{split: train}",
            '{split: train, prompt: "de: page 0 "}',
            "(?s)no row has all of these: split: train, prompt: de: page 0 |no row has",
        ),
        (
            "{german: [de, af], french: [fr]}",
            "{a: {split: trian}, b: {split: train}}",
            r'items of a: no row has "trian"',
        ),
        (
            "data: {keep: 0.4}",
            "data: {keep: 0.4, upsample: {groups: [aff]}}",
            r'levers.data.upsample.groups: group "aff" has no items — did you mean "af"\?',
        ),
    ],
)
def test_a_dry_run_refuses_bad_input(project: Path, old: str, new: str, text: str) -> None:
    edit(project, old, new)
    for attempt in (dry_run, run):
        with pytest.raises(PomonaError, match=text):
            attempt(project / "recipe.yaml", project / "run")
    assert not (project / "run").exists()


def test_a_folder_that_no_run_has_made_stays_as_it_is(project: Path) -> None:
    (project / "mine/work/thesis-0123456789abcdef").mkdir(parents=True)
    (project / "mine/work/thesis-0123456789abcdef/text").write_text("x")
    (project / "hidden/.git").mkdir(parents=True)
    for attempt in (dry_run, run):
        for name in ("mine", "hidden"):
            before = sorted((project / name).rglob("*"))
            with pytest.raises(
                PomonaError, match=rf"{name}: holds files and is no folder that Pomona"
            ):
                attempt(project / "recipe.yaml", project / name)
            assert sorted((project / name).rglob("*")) == before
        with pytest.raises(PomonaError, match=r"lies in .*, which is the run|is an input, and the"):
            attempt(project / "recipe.yaml", project / "model")
        with pytest.raises(PomonaError, match=r"rows.jsonl: is no folder — choose another name"):
            attempt(project / "recipe.yaml", project / "rows.jsonl")


def test_only_scratch_of_steps_goes_at_the_end_of_a_run(project: Path) -> None:
    recipe = project / "recipe.yaml"
    recipe.write_text(recipe.read_text().split("train:")[0] + "base: hf:model\n")
    (project / "run/work").mkdir(parents=True)
    write_into(project / "run", {})
    (project / "run/work/old-step-0123456789abcdef").mkdir()
    (project / "run/work/thesis").mkdir()
    (project / "run/work/notes.txt").write_text("mine")
    run(recipe, project / "run")
    assert sorted(path.name for path in (project / "run/work").iterdir()) == ["notes.txt", "thesis"]
    (project / "run/report.html").write_text("mine")
    with pytest.raises(PomonaError, match=r"report.html: is not what Pomona wrote there"):
        run(recipe, project / "run")
    assert (project / "run/report.html").read_text() == "mine"


def test_a_seed_that_no_recipe_may_have_is_refused(project: Path) -> None:
    with pytest.raises(PomonaError, match=r"^seed: 99999999999 should be less than 2147483648"):
        dry_run(project / "recipe.yaml", project / "run", seed=99999999999)


def test_a_group_with_the_name_of_a_part_is_refused(project: Path) -> None:
    rows = project / "rows.jsonl"
    rows.write_text(rows.read_text().replace('"af"', '"tail"'))
    edit(project, "[de, af]", "[de, tail]")
    with pytest.raises(PomonaError, match=r'a group cannot be called "tail" — rename it'):
        dry_run(project / "recipe.yaml", project / "run")


def test_a_value_that_no_row_has_is_found_by_the_step_where_the_plan_does_not_count(
    project: Path,
) -> None:
    edit(project, "records: rows.jsonl", "records: rows.jsonl, on_error: reject")
    edit(project, "{split: test}", "{split: tset}")
    with pytest.raises(PomonaError, match=r'no row has "tset" .* did you mean "test"'):
        run(project / "recipe.yaml", project / "run")
    assert not list((project / "run/steps").iterdir())


@pytest.mark.parametrize(
    ("ladder", "text"),
    [
        ("[hf:large]", r'line 7: the base "hf:model" is not one of its sizes: write it into the'),
        ("[hf:model, hf:large, hf:large]", r'line 7: "hf:large" is there twice'),
        ("[hf:model, ./model]", r'"./model" and "hf:model" have the same number of parameters'),
        ("[hf:model, hf:large]", r"training.json: is not JSON.* — give the rung's `tokens`"),
    ],
)
def test_a_ladder_that_says_nothing_is_refused(
    project: Path, make_checkpoint: Callable[[Path, int], Path], ladder: str, text: str
) -> None:
    (make_checkpoint(project / "large", 24) / "training.json").write_text('{"flops": 1')
    edit(project, "base: hf:model", f"base: hf:model\nladder: {ladder}")
    with pytest.raises(PomonaError, match=text):
        dry_run(project / "recipe.yaml", project / "run")


def test_all_data_and_mixed_are_one_result_where_they_are_one_model(project: Path) -> None:
    """Without other levers' groups the experts cover all of the training items."""
    edit(project, "group: group}", "group: group, groups: [de, fr, af]}")
    plan, *_ = _planned(project / "recipe.yaml", None, {}, insist=False)
    trained = {m.variant: m.baselines for m in plan.measurements()}
    assert "mixed" not in trained
    assert trained["merge/ties"] == ("hf:model", "all data")
    models = [m.model for m in plan.measurements() if m.system.lever in ("data", "merging")]
    assert len(models) == len(set(map(id, models)))


def test_the_tail_is_what_has_least_data_also_when_groups_are_limited(project: Path) -> None:
    edit(project, "tokens: 1500", "tokens: 500, per_group: 5")
    edit(project, "tail: 1", "tail: 2")
    text = (project / "recipe.yaml").read_text()
    (project / "recipe.yaml").write_text(text[: text.index("levers:")])
    groups = Ledger.read(run(project / "recipe.yaml", project / "run") / "ledger.json").meta.groups
    assert [(g.group, g.tail) for g in groups] == [("de", False), ("fr", True), ("af", True)]
    assert (groups[0].train_examples or 0) > 5


def test_the_example_for_a_users_own_model(project: Path) -> None:
    example = Path(__file__).parents[2] / "examples/own-model.yaml"
    text = example.read_text(encoding="utf-8")
    assert "tokens: 200000" in text
    (project / "own-model.yaml").write_text(
        text.replace("tokens: 200000", "tokens: 1500").replace(
            "tail: 2", "tail: 2\n  max_new_tokens: 8"
        ),
        encoding="utf-8",
    )
    (project / "model").rename(project / "my-checkpoint")
    names = {"de": "news", "fr": "letters", "af": "manuals"}
    for split in ("train", "test"):
        rows = [
            json.loads(line)
            for line in (project / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        ]
        kept = [{**row, "group": names[row["group"]]} for row in rows if row["split"] == split]
        (project / f"{split}.jsonl").write_text(
            "\n".join(json.dumps(row) for row in kept), encoding="utf-8"
        )
    ledger = Ledger.read(run(project / "own-model.yaml", project / "run") / "ledger.json")
    assert {e.lever for e in ledger.entries} == {
        "scale", "control", "data", "merging", "sampling",
    }  # fmt: skip
    assert {"prune/top 30 %", "prune/random 60 %"} <= {e.variant for e in ledger.entries}
    assert all(e.scale_equivalent is None for e in ledger.entries)


def test_without_torch_the_ledger_reads_and_a_run_says_what_to_install(project: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        "import pomona.data, pomona.merge, pomona.sample, pomona.tasks, pomona.ledger.report, "
        "pomona.records\n"
        "from pomona.cli import main\n"
        f"sys.exit(main(['run', {str(project / 'recipe.yaml')!r}, '--out', "
        f"{str(project / 'run')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: running a recipe needs PyTorch — pip install 'pomona[torch]'\n"
