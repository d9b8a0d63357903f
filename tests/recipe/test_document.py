import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings, strategies as st

from pomona.errors import PomonaError
from pomona.models import resolve
from pomona.recipe import json_schema, load_recipe
from pomona.recipe.inputs import tokenizer_folder
from pomona.recipe.levers.merging import Merge
from pomona.recipe.schema import RungRecipe

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPE = """\
name: small
data:
  records: ui
task:
  metric: chrf
  per_group: 50
base: ui-s
ladder: [ui-xs, {model: ui-s, tokens: 5}]
train:
  tokens: 1000
levers:
  merging:
    experts:
      a: [fr, es]
      b: [de]
"""


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def complaint(write, tmp_path, monkeypatch):
    """The error of a recipe, one line each, without the file."""
    monkeypatch.chdir(tmp_path)

    def complaint(text: str) -> list[str]:
        write(text)
        with pytest.raises(PomonaError) as caught:
            load_recipe("recipe.yaml")
        assert caught.value.exit_code == 2
        lines = str(caught.value).splitlines()
        assert all(line.startswith("recipe.yaml") for line in lines)
        return [line.removeprefix("recipe.yaml").removeprefix(", ") for line in lines]

    return complaint


def edited(old: str, new: str) -> str:
    assert RECIPE.count(old) == 1
    return RECIPE.replace(old, new)


def test_a_recipe_is_read_with_its_defaults(write):
    recipe = load_recipe(write(RECIPE))
    assert recipe.data.records == ["ui"]
    assert recipe.ladder == [RungRecipe(model="ui-xs"), RungRecipe(model="ui-s", tokens=5)]
    assert recipe.train and recipe.train.learning_rate == 5e-4
    assert recipe.levers.merging and recipe.levers.merging.methods == [
        Merge(method="linear"),
        Merge(method="ties"),
    ]
    assert (recipe.seed, recipe.threads, recipe.serve_items, recipe.task.tail) == (0, 1, 100_000, 5)
    assert recipe.levers.data is None


@pytest.mark.parametrize("name", ["quickstart", "own-model"])
def test_the_examples_are_recipes(name):
    recipe = load_recipe(EXAMPLES / f"{name}.yaml")
    assert recipe.name == name
    assert recipe.levers.sampling and recipe.levers.sampling.strategies == ["hedged5-mbr"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "metric: chrf",
            "metrc: chrf",
            'line 5: unknown key "metrc" in task — did you mean "metric"?',
        ),
        ("base: ui-s", "base: ui-s\nbas: x", 'line 8: unknown key "bas" — did you mean "base"?'),
        (
            "tokens: 5",
            "tokns: 5",
            'line 8: unknown key "tokns" in ladder[2] — did you mean "tokens"?',
        ),
        (
            "per_group: 50",
            'per_group: "fifty"',
            'line 6: "per_group" must be a whole number, not "fifty"',
        ),
        (
            "per_group: 50",
            'per_group: "50"',
            'line 6: "per_group" must be a whole number, not "50"',
        ),
        ("per_group: 50", "per_group: 5.5", 'line 6: "per_group" must be a whole number, not 5.5'),
        (
            "per_group: 50",
            "per_group: true",
            'line 6: "per_group" must be a whole number, not true',
        ),
        ("per_group: 50", "per_group: 0", 'line 6: "per_group" must be at least 1, not 0'),
        (
            "metric: chrf",
            "metric: crf",
            'line 5: there is no metric "crf" — did you mean "chrf"?',
        ),
        ("records: ui", "records: 5", 'line 3: "records" must be text, not 5'),
        ("records: ui", "records: []", 'line 3: "records" must not be empty'),
        ("records: ui", "records: [ui, 5]", 'line 3: item 2 of "records" must be text, not 5'),
        (
            "ladder: [ui-xs,",
            "ladder: [5,",
            'line 8: item 1 of "ladder" must be a model URI or a mapping, not 5',
        ),
        (
            "  tokens: 1000",
            "  warmup: 1.5\n  tokens: 9",
            'line 10: "warmup" must be less than 1, not 1.5',
        ),
        (
            "  tokens: 1000",
            "  tokens: 9\n  pruning: {level: 0.5, initial: 0.6}",
            'line 11: "begin" must be before "end", and "initial" at most "level", which is below 1',
        ),
        (
            "  tokens: 1000",
            "  batch_tokens: 64",
            'line 9: the budget is "tokens" or "flops", one of them',
        ),
        (
            "data:\n  records: ui",
            "data:",
            'line 2: "data" must be a mapping of keys and values, not nothing',
        ),
        ("base: ui-s\n", "", 'line 1: "base" is missing'),
        (
            "name: small",
            "name: a b",
            'line 1: "name" must be made of letters, digits, dots, hyphens and underscores',
        ),
        ("[fr, es]", "[fr, de]", 'line 15: group "de" already belongs to expert "a"'),
        ("      b: [de]\n", "", "line 13: merging needs at least two experts, not 1"),
        (
            "records: ui",
            "records: ui\n  groups: [fr, es]",
            'line 16: group "de" of expert "b" is not in data.groups',
        ),
        (
            "train:\n  tokens: 1000\n",
            "",
            'line 10: the lever "merging" fine-tunes models and needs "train"',
        ),
        (
            "base: ui-s",
            "base: *x",
            "line 7, column 7: broken YAML: aliases such as *x are not supported",
        ),
        (
            "base: ui-s",
            "base: [",
            "line 9, column 1: broken YAML: did not find expected ',' or ']'",
        ),
        (
            "base: ui-s",
            "base: !!python/name:os.system x",
            'line 7: "x" is not a value a recipe can hold',
        ),
        ("base: ui-s", "name: other", 'line 7: the key "name" was already given in line 1'),
    ],
)
def test_a_mistake_is_told_with_its_line(complaint, old, new, expected):
    assert any(line.startswith(expected) for line in complaint(edited(old, new)))


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("hedged5-mrb", 'there is no part "mrb": did you mean "mbr"?'),
        ("greedy", '"greedy" has one answer: give a pool of at least 2, such as hedged5-mbr'),
        ("hedged8-mbr", '"hedged8-mbr" is there twice'),
    ],
)
def test_a_strategy_that_a_recipe_cannot_measure_is_refused(complaint, strategy, expected):
    recipe = f"{RECIPE}  sampling:\n    strategies:\n      - hedged8\n      - {strategy}\n"
    assert complaint(recipe) == [f"line 19: {expected}"]


def test_a_broken_strategy_does_not_hide_those_after_it(complaint):
    recipe = f"{RECIPE}  sampling:\n    strategies: [hedged5-mrb, hedged8-mbr, hedged8-mbr]\n"
    assert complaint(recipe) == [
        'line 17: "hedged8-mbr" is there twice',
        'line 17: there is no part "mrb": did you mean "mbr"?',
    ]


def test_a_mistake_in_a_union_is_told_once(complaint):
    size = "{hidden: 8, layers: 1, heads: 2, intermediate: 8}"
    pretrain = (
        f"pretrain: {{tokenizer: t, tokens: 9, sizes: {{s: {size}}}, learning_rate: "
        f"RATE, marks: {{t: [0.5]}}}}\n"
    )
    assert complaint(RECIPE + pretrain.replace("RATE", "fast")) == [
        'line 16: "learning_rate" must be a number, not "fast"'
    ]
    assert complaint(RECIPE + pretrain.replace("RATE", "{s: fast}")) == [
        'line 16: "s" must be a number, not "fast"'
    ]
    assert complaint(RECIPE + pretrain.replace("RATE", "{t: 0.1}")) == [
        'line 16: "t" is not one of the sizes',
        'line 16: "t" is not one of the sizes: s',
        'line 16: the learning rate of "s" is missing',
    ]


def test_all_mistakes_are_told_in_order(complaint):
    text = complaint(
        edited("metric: chrf", "metrc: chrf")
        .replace("50", "fifty")
        .replace("tokens: 1000", "tokens: no")
    )
    assert [line.split(":")[0] for line in text] == ["line 5", "line 6", "line 10"]


def test_what_is_no_recipe_at_all(complaint, tmp_path):
    assert complaint("") == [": is empty — see examples/quickstart.yaml for a recipe"]
    assert complaint("- 1") == ["line 1: a recipe is a mapping of keys and values, and this is not"]
    assert complaint("name: \x07") == ["line 1: broken YAML: the character U+0007"]
    assert complaint("[" * 2000) == ["line 1: broken YAML: nested too deeply"]
    (tmp_path / "recipe.yaml").write_bytes(b"name: x\nbase: \xff")
    with pytest.raises(PomonaError, match="line 2: is not UTF-8 text"):
        load_recipe("recipe.yaml")


def test_a_missing_file_names_the_nearest(write):
    path = write(RECIPE)
    with pytest.raises(
        PomonaError, match=r'recpie\.yaml: no such recipe — did you mean "recipe\.yaml"\?'
    ):
        load_recipe(path.with_name("recpie.yaml"))


def test_scalars_are_those_of_yaml_1_2(write):
    text = edited("[fr, es]", "[no, on]").replace(
        "tokens: 1000", "tokens: 1_000_000\n  learning_rate: 1e-3"
    )
    recipe = load_recipe(write(text))
    assert recipe.levers.merging and recipe.levers.merging.experts["a"] == ["no", "on"]
    assert recipe.train and (recipe.train.tokens, recipe.train.learning_rate) == (1_000_000, 1e-3)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=12)
@given(
    key=st.sampled_from(
        ["name", "data", "task", "base", "ladder", "train", "levers", "pretrain", "device", "other"]
    ),
    value=VALUES,
)
def test_whatever_stands_in_a_recipe_it_is_read_or_refused_with_a_line(
    tmp_path_factory, key, value
):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    document = {**yaml.safe_load(RECIPE), key: value}
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
    try:
        load_recipe(path)
    except PomonaError as error:
        assert all(line.startswith(f"{path}, line ") for line in str(error).splitlines())


def test_the_schema_knows_every_key_and_describes_it():
    schema = json_schema()
    json.dumps(schema)
    assert {"name", "data", "task", "levers"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    for part in (schema, *schema["$defs"].values()):
        assert all("description" in field for field in part["properties"].values())


def test_paths_are_relative_to_the_recipe(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "ui-s").mkdir()
    (tmp_path / "part-1.jsonl").touch()
    assert resolve(tmp_path, "part-1.jsonl") == str(tmp_path / "part-1.jsonl")
    assert resolve(tmp_path, "part-*.jsonl") == str(tmp_path / "part-*.jsonl")
    assert resolve(tmp_path, "model") == str(tmp_path / "model")
    assert resolve(tmp_path, "hf:model") == f"hf:{tmp_path / 'model'}"
    assert resolve(tmp_path, "gguf:./part-1.jsonl") == f"gguf:{tmp_path / 'part-1.jsonl'}"
    for same in (
        "ui",
        "ui-s",
        "hf:org/name",
        "s3://bucket/*.parquet",
        "other-*.jsonl",
        "/tmp",
        "http://host/v1#name",
        "",
    ):
        assert resolve(tmp_path, same) == same


def test_a_name_too_long_for_a_file_is_not_there(tmp_path: Path) -> None:
    name = "x" * 300
    assert resolve(tmp_path, name) == name
    with pytest.raises(PomonaError, match="there is no tokenizer"):
        tokenizer_folder(name, tmp_path)
