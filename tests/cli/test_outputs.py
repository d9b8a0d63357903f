"""Every output of every command: never an input, another output, or somebody else's."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from safetensors.numpy import save_file

from pomona.arena.annotating.store import Store
from pomona.cli import main
from pomona.data.audit import sample_audit

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "outputs.md"
ROWS = [
    {
        "id": str(row),
        "lang": "de",
        "text": f"Ein Satz mit der Nummer {row}.",
        "prompt": f"Sentence {row}",
        "completion": f"Ein Satz {row} auf Deutsch",
        "reviews": 3,
        "score": row / 10,
    }
    for row in range(6)
]


@dataclass(frozen=True)
class Outputs:
    """A command line that works; its inputs; its outputs that an option or argument names, by the
    place in the command line; and those that have their names from these. `pages` are folders to
    which a page is added: whatever else is in them stays.
    """

    command: str
    line: str
    inputs: str
    files: str = ""
    folders: str = ""
    derived_files: str = ""
    derived_folders: str = ""
    pages: str = ""


CASES = [
    Outputs("data dedup", "in.jsonl --out o.parquet --pairs p.parquet --work w --against b.jsonl",
            "in.jsonl b.jsonl", "o.parquet p.parquet", "w", "o.parquet.card.json"),
    Outputs("data dedup", "in.jsonl --out o.parquet --index i", "in.jsonl", "o.parquet", "i",
            "o.parquet.pairs.parquet", ".o.parquet.work"),
    Outputs("data dedup", "in.jsonl --out o.parquet --method substring --work w", "in.jsonl",
            "o.parquet", "w", "o.parquet.spans.parquet o.parquet.card.json"),
    Outputs("data dedup", "in.jsonl --out o.parquet --method semantic --model ui-xs --work w",
            "in.jsonl", "o.parquet", "w", "o.parquet.pairs.parquet o.parquet.card.json"),
    Outputs("data score", "in.jsonl --out o.parquet --scores length --models ui-xs", "in.jsonl",
            "o.parquet", "", "o.parquet.card.json", "o.parquet.work"),
    Outputs("data order", "in.jsonl --out o.parquet --models ui-xs --models ui-s --prompt prompt "
            "--completion completion --n 1 --k 2", "in.jsonl", "o.parquet", "", "o.parquet.card.json",
            "o.parquet.work"),
    Outputs("data filter", "in.jsonl --out o.parquet --where score>0.1 --rejects r.parquet",
            "in.jsonl", "o.parquet r.parquet", "", "o.parquet.card.json"),
    Outputs("data prune", "in.jsonl --out o.parquet --by score", "in.jsonl", "o.parquet", "",
            "o.parquet.card.json"),
    Outputs("data sweep", "in.jsonl --out s --by score --keep 0.5", "in.jsonl", "", "",
            "s/top-0.5.parquet s/top-0.5.parquet.card.json s/random-0.5.parquet"),
    Outputs("data mix", "mix.yaml --out o.parquet", "in.jsonl mix.yaml", "o.parquet", "",
            "o.parquet.card.json"),
    Outputs("data templates", "in.jsonl --out o.parquet --prompt prompt --completion completion",
            "in.jsonl", "o.parquet", "", "o.parquet.card.json"),
    Outputs("data audit sample", "in.jsonl --out a", "in.jsonl", "", "a", "a.card.json"),
    Outputs("data audit report", "audit", "", "", "", "audit/report.json audit/report.html"),
    Outputs("merge", "merge.yaml o --overwrite", "one two merge.yaml", "", "o", "", ".o.partial"),
    Outputs("merge", "series.yaml o --overwrite", "one two series.yaml", "", "o", "",
            ".o.partial o.work"),
    Outputs("merge moe", "moe.yaml o --overwrite", "one two moe.yaml", "", "o", "", ".o.partial"),
    Outputs("merge transplant", "one two o --no-measure --overwrite", "one two", "", "o", "",
            ".o.partial"),
    Outputs("merge extract", "one two o --rank 1", "one two", "", "o"),
    Outputs("merge adapters", "lora --out o --weights 0.5", "lora", "", "o"),
    Outputs("merge search", "search.yaml o --overwrite", "one two search.yaml", "", "o", "",
            "o.work"),
    Outputs("merge sweep", "search.yaml o --set weight=0.5 --overwrite", "", "", "", "",
            "o/weight=0.5 o.work"),
    Outputs("merge leave-one-out", "merge.yaml o --overwrite", "", "", "", "",
            "o/all o/without-two o.work"),
    Outputs("sample", "in.jsonl --out o.parquet --model ui-xs --store s.db", "in.jsonl",
            "o.parquet s.db", "", "o.parquet.card.json"),
    Outputs("sample", "in.jsonl --out o.parquet --model ui-xs", "in.jsonl", "o.parquet", "",
            "o.parquet.answers.db"),
    Outputs("sample index", "in.jsonl --out i", "in.jsonl", "", "i"),
    Outputs("sample datastore", "in.jsonl --out d --model ui-xs", "in.jsonl", "d"),
    Outputs("sample selector", "in.jsonl --out t.json --memory-table b.jsonl --memory-source prompt "
            "--memory-answer completion --metric exact_match", "in.jsonl b.jsonl", "t.json"),
    Outputs("forget compress", "one o --method magnitude --level 0.5 --overwrite", "one", "", "o",
            "", ".o.partial"),
    Outputs("forget compress", "gguf:one.gguf q.gguf --method Q8_0 --overwrite", "one.gguf",
            "q.gguf"),
    Outputs("forget compare", "old.jsonl new.jsonl --page p", "old.jsonl new.jsonl", pages="p"),
    Outputs("forget check", "old.jsonl new.jsonl --max-flips 3 --junit j", "old.jsonl new.jsonl", "j"),
    Outputs("forget audit", "models.jsonl --page p", "models.jsonl", pages="p"),
    Outputs("scale flops", "small --page p", "small", pages="p"),
    Outputs("scale thresholds", "--page p", "", pages="p"),
    Outputs("scale frontier", "t.csv --bases b.csv --page p", "t.csv b.csv", pages="p"),
    Outputs("scale returns", "t.csv --page p", "t.csv", pages="p"),
    Outputs("scale growth", "t.csv --page p", "t.csv", pages="p"),
    Outputs("scale inflection", "curve.csv --page p", "curve.csv", pages="p"),
    Outputs("scale decide", "levers.csv --page p", "levers.csv", pages="p"),
    Outputs("scale fit", "runs.csv --page p", "runs.csv", pages="p"),
    Outputs("scale plan", "runs.csv --budget 1e16 --page p", "runs.csv", pages="p"),
    Outputs("arena pairs", "old.jsonl new.jsonl --out o.parquet", "old.jsonl new.jsonl",
            "o.parquet", "", "o.parquet.card.json"),
    Outputs("arena export", "--db a.db --out o.parquet --records r.csv --ratings s.jsonl", "a.db",
            "o.parquet r.csv s.jsonl", "", "o.parquet.card.json"),
    Outputs("arena fit", "votes.csv --models makers.csv --page p", "votes.csv makers.csv", pages="p"),
    Outputs("arena judge", "put.csv --verdicts said.csv --out o.csv --page p", "put.csv said.csv",
            "o.csv", "", "o.csv.card.json", pages="p"),
    Outputs("arena judge", "put.csv --judge ui-xs --out o.csv --store s.db", "put.csv",
            "o.csv s.db", "", "o.csv.card.json"),
    Outputs("arena audit", "votes.csv --models makers.csv --page p", "votes.csv makers.csv",
            pages="p"),
    Outputs("arena prioritize", "shown.csv --out o.parquet --store s.db --page p", "shown.csv",
            "o.parquet s.db", "", "o.parquet.card.json", pages="p"),
    Outputs("synth profile", "in.jsonl ui-xs --prompts b.jsonl --answers a --samples 1 --max-tokens 1 "
            "--page p", "in.jsonl b.jsonl", "", "", "a/ui-xs.parquet a/ui-xs.parquet.card.json",
            pages="p"),
    Outputs("synth route", "answers.jsonl --out r --page p", "answers.jsonl", "r", pages="p"),
    Outputs("synth run", "synth.yaml --out o", "in.jsonl synth.yaml", "", "o"),
    Outputs("synth annotate", "in.jsonl --definitions kinds.yaml --out o.parquet --labels b.jsonl "
            "--human lang --id id --page p", "in.jsonl b.jsonl kinds.yaml", "o.parquet", "",
            "o.parquet.card.json", pages="p"),
    Outputs("synth annotate", "in.jsonl --definitions kinds.yaml --model ui-xs --out o.csv --store s.db",
            "in.jsonl kinds.yaml", "o.csv s.db", "", "o.csv.card.json"),
    Outputs("synth targets", "targets.yaml --out o --page p", "in.jsonl targets.yaml", "", "o",
            pages="p"),
    Outputs("markers tag", "in.jsonl --taxonomy marks.yaml --out o.parquet", "in.jsonl marks.yaml",
            "o.parquet", "", "o.parquet.card.json"),
    Outputs("markers apply", "tags.jsonl --taxonomy marks.yaml --out o.parquet",
            "tags.jsonl marks.yaml", "o.parquet", "", "o.parquet.card.json o.parquet.markers.json"),
    Outputs("markers report", "tags.jsonl --page p", "tags.jsonl", pages="p"),
    Outputs("markers strip", "tags.jsonl --out o.parquet", "tags.jsonl", "o.parquet", "",
            "o.parquet.card.json"),
    Outputs("run", "run.yaml --out r", "one", "", "r"),
]  # fmt: skip
QUIET = "data rates, data value, data audit page, models pull, serve, arena serve, report, ledger"
QUIET = f"{QUIET}, models list, doctor, forget redundancy, forget ladder, forget order, arena prioritize replay"  # need a process, a network or a run: tested on their own
# The line itself is sound: it is refused for what is in its outputs' places.
WHY = re.compile(
    "is an input|the next run would read|would be|lies in|is there already|is not what|holds files|is no (?!column)"
    "|is damaged|is not a store|is a merged|has a name of|is a folder|not a table Pomona can name"
)
NAMES = [f"{case.command} {place}" for place, case in enumerate(CASES)]


def checkpoint(folder: Path, seed: int) -> None:
    folder.mkdir()
    weight = np.random.default_rng(seed).normal(size=(8, 8)).astype(np.float32)
    save_file({"model.layers.0.mlp.up_proj.weight": weight}, folder / "model.safetensors")
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of an arena in which nobody has voted."""
    path = tmp_path_factory.mktemp("arena") / "a.db"
    Store(str(path)).close()
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arena: Path) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(arena, "a.db")
    for name in ("in.jsonl", "b.jsonl"):
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    Path("one.gguf").write_bytes(b"GGUF")
    Path("t.csv").write_text("model,params,score,date\na,1e9,30,2020-01\nb,9e9,40,2021-01\n")
    Path("b.csv").write_text("model\na\n")
    Path("curve.csv").write_text("params,loss\n1e6,3\n2e6,2\n")
    Path("levers.csv").write_text("lever,size,value\na,1,1\nb,1,2\na,2,1\nb,2,2\n")
    runs = [
        (n, d, 2 + 400 / n**0.35 + 400 / d**0.35) for n in (1e6, 4e6, 9e6) for d in (1e8, 5e8, 2e9)
    ]
    votes = "x,y,x\nx,y,y\nx,y,tie\n"
    Path("votes.csv").write_text(f"model_a,model_b,winner\n{votes}")
    Path("shown.csv").write_text(
        "prompt,model_a,model_b,completion_a,completion_b,winner\np,x,y,one,two,x\n"
    )
    answered = [(row, who) for row in "abcde" for who in ("one", "once", "two")]
    Path("answers.jsonl").write_text(
        "".join(
            json.dumps({"id": row, "text": row, "lang": "af", "teacher": who, "answer": row + who})
            + "\n"
            for row, who in answered
        )
    )
    Path("makers.csv").write_text("model,organisation\nx,Lab\n")
    Path("runs.csv").write_text(
        "params,tokens,loss\n" + "".join(f"{n},{d},{loss}\n" for n, d, loss in runs)
    )
    answer = {"input": "?", "prediction": "a", "reference": "a"}
    answers = [{"id": str(row)} | answer for row in range(3)]
    models = [{"level": level, "seed": seed} for level in ("dense", "small") for seed in range(4)]
    for name, first in (("old.jsonl", "a"), ("new.jsonl", "b")):
        rows = [answers[0] | {"prediction": first}, *answers[1:]]
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("models.jsonl").write_text(
        "".join(json.dumps(row | one) + "\n" for row in answers for one in models)
    )
    vote = "prompt,model_a,model_b,winner,completion_a,completion_b\n1,x,y,tie,a,b\n"
    for name in ("put.csv", "said.csv"):
        Path(name).write_text(vote)
    Path("small").mkdir()
    shutil.copy(ROOT / "src/pomona/assets/ui-xs/config.json", "small")
    Path("kinds.yaml").write_text(
        "name: kind\notherwise: b\ncategories: {a: {rules: [{words: [9, null]}]}}\n"
    )
    Path("marks.yaml").write_text("markers: {chars: {kind: integer, measure: characters}}\n")
    tags = {"marker_chars": 1, "marker_chars_by": "measured", "marker_chars_sure": 1.0}
    Path("tags.jsonl").write_text("".join(json.dumps(row | tags) + "\n" for row in ROWS))
    Path("targets.yaml").write_text(
        "training: {rows: in.jsonl}\ntest: [{rows: in.jsonl}]\nrows: 5\n"
        "pool: {rows: in.jsonl, text: prompt}\n"
    )
    Path("mix.yaml").write_text("inputs: {a: in.jsonl}\nsize: rows\n")
    for seed, name in enumerate(("one", "two", "three")):
        checkpoint(Path(name), seed)
    Path("lora").mkdir()
    pair = {f"base_model.model.q.lora_{part}.weight": np.ones((1, 1), np.float32) for part in "AB"}
    save_file(pair, "lora/adapter_model.safetensors")
    Path("lora/adapter_config.json").write_text('{"peft_type": "LORA", "r": 1}')
    experts = (
        "merge_method: task_arithmetic\nbase_model: one\nmodels:\n- model: two\n"
        "  parameters: {weight: 0.5}\n- model: three\n"
    )
    Path("merge.yaml").write_text(f"{experts}  parameters: {{weight: 0.5}}\n")
    Path("moe.yaml").write_text(
        "base_model: one\ngate_mode: random\nexperts: [{source_model: one}, {source_model: two}]\n"
    )
    last = "merge_method: passthrough\nmodels: [{model: first}]\n"
    Path("series.yaml").write_text(f"name: first\n{Path('merge.yaml').read_text()}---\n{last}")
    section = (
        "search:\n  trials: 2\n  records: in.jsonl\n  metric: chrf\n  prompt: '{prompt}'\n"
        "  completion: completion\n  valid: {where: {id: ['0', '1', '2']}}\n"
        "  test: {where: {id: ['3', '4', '5']}}\n"
    )
    Path("search.yaml").write_text(
        f"{experts}  parameters: {{weight: {{search: [0, 1], name: weight}}}}\n{section}"
    )
    Path("synth.yaml").write_text(
        "data: {rows: in.jsonl}\nteachers: {up: {program: [tr, a-z, A-Z]}}\n"
    )
    Path("run.yaml").write_text(
        "name: r\ndata: {records: in.jsonl, prompt: '{prompt}', completion: '{completion}'}\n"
        "task: {where: {id: ['0', '1', '2']}}\nbase: hf:one\n"
        "levers: {sampling: {strategies: [hedged2-mbr]}}\n"
    )


def tree() -> dict[str, bytes | str | None]:
    """All that is here: the bytes of files, where links lead, and that there are folders."""
    return {
        str(path): str(path.readlink())
        if path.is_symlink()
        else None
        if path.is_dir()
        else path.read_bytes()
        for path in sorted(Path().rglob("*"))
    }


def refused(case: Outputs, line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command line says that is refused with exit code 2 and leaves everything as it was."""
    before = tree()
    code = main([*case.command.split(), *line.split()])
    said = capsys.readouterr().err
    assert code == 2, (line, said)
    assert "Traceback" not in said
    assert WHY.search(said), (line, said)
    assert tree() == before, line
    return said


def replaced(case: Outputs, name: str, other: str) -> str:
    return " ".join(other if word == name else word for word in case.line.split())


def ways(name: str) -> Iterator[str]:
    """An input's name, from elsewhere, and by a link."""
    yield name
    yield f"../{Path.cwd().name}/{name}"
    link = Path(f"link-{Path(name).name}")
    if not link.is_symlink():
        link.symlink_to(name)
    yield str(link)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_no_output_is_an_input(case: Outputs, capsys: pytest.CaptureFixture[str]) -> None:
    for output in [*case.files.split(), *case.folders.split(), *case.pages.split()]:
        for name in case.inputs.split():
            for way in ways(name):
                refused(case, replaced(case, output, way), capsys)
    for name in re.findall(r"\S+\.(?:jsonl|csv)", case.inputs):
        in_a_folder(case, name, capsys)


def in_a_folder(case: Outputs, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a folder with a table no output may be a part: the next run would read it too."""
    folder = Path("d", Path(name).stem)
    folder.mkdir(parents=True)
    shutil.copy(name, folder)
    texts = {recipe: recipe.read_text() for recipe in Path().glob("*.yaml")}
    for recipe, text in texts.items():
        recipe.write_text(text.replace(f" {name}", f" {folder}"))
    words = [str(folder) if word == name else word for word in case.line.split()]
    for output in [*case.files.split(), *case.folders.split(), *case.pages.split()]:
        line = " ".join(f"{folder}/{word}" if word == output else word for word in words)
        assert "the next run would read it too" in refused(case, line, capsys)
    for recipe, text in texts.items():
        recipe.write_text(text)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_no_output_is_another(case: Outputs, capsys: pytest.CaptureFixture[str]) -> None:
    named = [*case.files.split(), *case.folders.split(), *case.pages.split()]
    for output in named:
        for other in [*named, *case.derived_files.split(), *case.derived_folders.split()]:
            # What has its name from an output moves with it.
            if other != output and not other.lstrip(".").startswith(output):
                refused(case, replaced(case, output, other), capsys)


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_nothing_of_somebody_else_is_replaced(
    case: Outputs, capsys: pytest.CaptureFixture[str]
) -> None:
    if case.command == "data audit report":
        sample_audit(pa.Table.from_pylist(ROWS), "audit", n=2)
    pages = [f"{name}/index.html" for name in case.pages.split()]
    for name in [*case.files.split(), *case.derived_files.split(), *pages]:
        place = Path(name)
        place.parent.mkdir(parents=True, exist_ok=True)
        # What is empty is a new database to SQLite.
        for text in ("mine", "{}", "") if not name.endswith(".db") else ("mine", "{}"):
            place.write_text(text)
            refused(case, case.line, capsys)
        place.unlink()
        place.mkdir()
        refused(case, case.line, capsys)
        place.rmdir()
    for name in [*case.folders.split(), *case.derived_folders.split()]:
        for inside in ("thesis", ".git/config", "plan.json", "config.json", "index.json"):
            place = Path(name, inside)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text('{"a": 1}')
            refused(case, case.line, capsys)
            place.unlink()
            while place.parent != Path():
                place = place.parent
                place.rmdir() if not any(place.iterdir()) else None
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("mine")
        refused(case, case.line, capsys)
        Path(name).unlink()
    for name in case.pages.split():
        Path(name).rmdir()
        Path(name).write_text("mine")
        refused(case, case.line, capsys)
        Path(name).unlink()
        Path(name).mkdir()
        Path(name, "thesis").write_text("mine")
        assert main([*case.command.split(), *case.line.split()]) == 0
        capsys.readouterr()
        assert Path(name, "thesis").read_text() == "mine" and Path(name, "index.html").is_file()


def test_the_page_lists_every_command() -> None:
    listed = re.findall(r"^\| (`[^|]*`) \|", DOCS.read_text(), re.MULTILINE)
    commands = [command for cell in listed for command in re.findall("`([^`]+)`", cell)]
    tested = [*dict.fromkeys(case.command for case in CASES), *QUIET.split(", ")]
    assert sorted(commands) == sorted(tested)


@pytest.mark.parametrize("name", ["o.parquet", "o.parquet.card.json", "o.parquet.pairs.parquet"])
def test_rejects_are_not_written_over_another_output(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = f"in.jsonl --out o.parquet --on-error reject --rejects {name}"
    refused(Outputs("data dedup", "", ""), line, capsys)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("synth run", "synth.yaml --out o"),
        ("synth targets", "targets.yaml --out o"),
        ("merge search", "search.yaml o"),
        ("data audit sample", "in.jsonl --out o"),
        ("sample index", "in.jsonl --out o"),
    ],
)
def test_rejects_are_not_written_into_a_folder_of_the_result(
    command: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(
        Outputs(command, "", ""), f"{line} --on-error reject --rejects o/rejects.parquet", capsys
    )


def test_folders_of_one_kind_do_not_replace_another(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", "merge.yaml", "o"]) == 0
    capsys.readouterr()
    for command, line in {
        "sample index": "in.jsonl --out o",
        "merge extract": "one two o --rank 1",
        "merge adapters": "lora --out o --weights 0.5",
        "run": "run.yaml --out o",
    }.items():
        assert "is a merged model" in refused(Outputs(command, "", ""), line, capsys)


def test_a_merge_replaces_what_a_link_leads_to(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", "merge.yaml", "o"]) == 0
    Path("o/notes").write_text("mine")
    Path("link").symlink_to("o")
    assert main(["merge", "merge.yaml", "link", "--overwrite"]) == 0
    assert (Path("link").is_symlink(), Path("o/notes").read_text()) == (True, "mine")


def test_models_in_folders_with_signs(capsys: pytest.CaptureFixture[str]) -> None:
    Path("one").rename("a+b@c")
    Path("two").rename("d@e")
    recipe = Path("merge.yaml")
    text = recipe.read_text().replace("two", "d@e")
    recipe.write_text(text.replace("base_model: one", "base_model: a+b@c"))
    said = refused(Outputs("merge", "", ""), "merge.yaml o", capsys)
    assert 'write {model: {path: "a+b@c"}}' in said
    recipe.write_text(text.replace("base_model: one", 'base_model: {model: {path: "a+b@c"}}'))
    assert main(["merge", "merge.yaml", "o"]) == 0
    recipe.write_text(recipe.read_text().replace("three", "three@main"))
    said = refused(Outputs("merge", "", ""), "merge.yaml p", capsys)
    assert 'three: is a folder, which has no revision "main"' in said


def test_a_model_or_a_table_in_the_other_place(capsys: pytest.CaptureFixture[str]) -> None:
    for line, says in {
        "data prune one --by score --out o.parquet": "one: is a model, not a table",
        "sample in.jsonl --model in.jsonl --out o.parquet": "in.jsonl: is not a checkpoint folder",
        "run in.jsonl": "this is a table — name a YAML file",
    }.items():
        assert main(line.split()) == 2
        assert says in capsys.readouterr().err
