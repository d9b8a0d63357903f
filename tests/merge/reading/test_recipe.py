from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pomona.errors import PomonaError
from pomona.merge.reading.parameters import Condition
from pomona.merge.reading.recipe import MergeRecipe, ModelRef, parse_model
from pomona.merge.reading.sections import read_recipe


def recipe(tmp_path: Path, text: str) -> MergeRecipe:
    (tmp_path / "recipe.yml").write_text(text)
    return read_recipe(tmp_path / "recipe.yml")


def problems(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(PomonaError) as caught:
        recipe(tmp_path, text)
    return [
        line.removeprefix(f"{tmp_path / 'recipe.yml'}, ") for line in str(caught.value).splitlines()
    ]


def test_a_recipe_of_mergekit_is_read_whole(tmp_path: Path) -> None:
    read = recipe(
        tmp_path,
        """
slices:
  - sources:
      - model: psmathur/orca_mini_v3_13b
        layer_range: [0, 40]
      - model: {model: {path: garage-bAInd/Platypus2-13B, revision: main}, lora: some/adapter}
        layer_range: [0, 40]
        parameters: {weight: 1e-1}
    base_model: psmathur/orca_mini_v3_13b
merge_method: dare_ties
base_model: psmathur/orca_mini_v3_13b@v3
parameters:
  weight:
    - filter: self_attn
      value: [0, 0.5, 1]
    - value: 0.5
  int8_mask: true
dtype: float16
out_dtype: torch.bfloat16
tokenizer:
  source: union
  tokens: {<|im_end|>: {source: {kind: model_token, model: a/b, token_id: "3"}, force: true}, x: {source: {kind: zero}}}
  pad_to_multiple_of: "64"
chat_template: auto
seed: 7
key_map: {a/b: {model.: language_model.}, c: auto}
""",
    )
    assert read.method == "dare_ties"
    assert (read.dtype, read.out_dtype, read.seed, read.chat_template) == ("F16", "BF16", 7, "auto")
    first, second = read.slices[0].sources
    assert first.layers == (0, 40)
    assert str(second.model) == "garage-bAInd/Platypus2-13B@main+some/adapter"
    assert second.parameters == {
        "weight": "1e-1"
    }  # YAML 1.1 reads text, as mergekit does; it counts as 0.1
    assert read.parameters["weight"] == (Condition("self_attn", (0, 0.5, 1)), Condition(None, 0.5))
    assert [str(ref) for ref in read.references] == [
        "psmathur/orca_mini_v3_13b",
        "garage-bAInd/Platypus2-13B@main+some/adapter",
        "psmathur/orca_mini_v3_13b@v3",
    ]
    assert read.tokenizer is not None
    assert read.tokenizer.tokens["<|im_end|>"].source == ModelRef("a/b")
    assert (read.tokenizer.tokens["<|im_end|>"].token_id, read.tokenizer.pad_to_multiple_of) == (
        3,
        64,
    )
    assert read.tokenizer.tokens["<|im_end|>"].force
    assert read.tokenizer.tokens["x"].source == "zero"
    assert read.key_map == {"a/b": {"model.": "language_model."}, "c": "auto"}


def test_all_mistakes_are_said_with_their_lines(tmp_path: Path) -> None:
    text = """models:
  - model: a
    paramters: {weight: 3}
  - model: b+c+d
    parameters:
      densty: 0.5
      weight: [0.1, lots]
merge_method: ties
base_modle: a
dtype: bf16
parameters:
  normalize: maybe
  lambda: [{filter: x, value: 1}, 2]
  density: {filter: "re:(", value: 1}
tokenizer_source: union
tokenizer: {source: base}
seed: -1
"""
    assert problems(tmp_path, text) == [
        'line 3: models.0.paramters: unknown key "paramters": did you mean "parameters"?',
        'line 4: models.1.model: "b+c+d" has more than one "+"; write {model: {path: …}, '
        "lora: {path: …}}",
        'line 6: models.1.parameters.densty: unknown parameter "densty": did you mean "density"?',
        'line 7: models.1.parameters.weight: expected a number, found "lots"',
        'line 9: base_modle: unknown key "base_modle": did you mean "base_model"?',
        'line 10: dtype: unknown dtype "bf16": did you mean "bfloat16"?',
        "line 12: parameters.normalize: expected true or false, found 'maybe'",
        "line 13: parameters.lambda: holds values and filters side by side; write {value: "
        "…} for the value of all other tensors",
        'line 14: parameters.density.filter: "re:(" is not a regular expression: missing ), '
        "unterminated subpattern at position 0",
        'line 16: tokenizer: give "tokenizer" or "tokenizer_source", not both',
        "line 17: seed: expected a whole number from 0 to 2^64 − 1, found -1",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models: [{model: a}]\n", 'line 1: "merge_method" is missing'),
        ("merge_method: linear\n", "line 1: give one of models, slices and modules, found none"),
        (
            (
                "merge_method: linear\nmodels: [{model: a}]\nslices: [{sources: [{model: a, "
                "layer_range: [0, 1]}]}]\n"
            ),
            "line 1: give one of models, slices and modules, found models and slices",
        ),
        (
            "merge_method: tise\nmodels: [{model: a}]\n",
            'line 1: merge_method: unknown merge_method "tise"; did you mean "ties"?',
        ),
        (
            (
                "merge_method: slerp\nslices:\n  - sources:\n    - {model: a, layer_range: [0, "
                "4]}\n    - {model: b, layer_range: [1, 4]}\n"
            ),
            "line 3: slices.0: its sources have different numbers of layers: 3, 4",
        ),
        (
            "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [4, 3]}]}]\n",
            (
                "line 2: slices.0.sources.0.layer_range: expected [first, end], where the end "
                "is not included, found [4, 3]"
            ),
        ),
        (
            "merge_method: passthrough\nslices: [{sources: [{model: a}]}]\n",
            'line 2: slices.0.sources.0: "layer_range" is missing',
        ),
        (
            "merge_method: linear\nmodels: {a: 1}\n",
            "line 2: models: expected a list with at least one item, found a mapping",
        ),
        (
            "merge_method: linear\nmodels: [{model: a}]\n---\nmerge_method: slerp\n",
            "line 3, column 1: broken YAML: but found another document — give each a file of its own",
        ),
        (
            "merge_method: linear\nmodels: [{model: a}]\nkey_map: {a: {'re:(': b}}\n",
            'line 3: key_map.a.re:(: "(" is no regular expression: missing ), unterminated '
            "subpattern at position 0",
        ),
        (
            "merge_method: linear\nmodels: [{model: a}]\nkey_map:\n  a: {'re:(x)': '\\2'}\n",
            'line 4: key_map.a.re:(x): "\\2" does not fit "(x)": invalid group reference 2 '
            "at position 1",
        ),
        (
            "merge_method: linear\nmodels: [{model: a}]\nkey_map: {a: {'x.*': 'y.*.*'}}\n",
            'line 3: key_map.a.x.*: "y.*.*" has more "*" than "x.*"',
        ),
        (
            "merge_method: linear\nmodels: [{model: a}]\nkey_map: {a: {x.: 'y.*'}}\n",
            'line 3: key_map.a.x.: "y.*" has a "*", and the prefix "x." has none',
        ),
        (
            "merge_method: linear\nmodels: [{model: a}]\nkey_map: {a: {'re:[[a]': b}}\n",
            'line 3: key_map.a.re:[[a]: "[[a]" is no regular expression: Possible nested set at '
            "position 1",
        ),
        (
            "merge_method: linear\nmodels: [{model: a}]\nkey_map: {a: {x.: 3}}\n",
            "line 3: key_map.a.x.: expected text, found 3",
        ),
        (
            "merge_method: LINEAR\nmodels: [{model: a}]\n",
            'line 1: merge_method: unknown merge_method "LINEAR"; did you mean "linear"?',
        ),
        (
            "merge_method: linear\nmodules: {default: {}}\n",
            'line 2: modules.default: give "models" or "slices", one of them',
        ),
    ],
)
def test_a_mistake_is_said(tmp_path: Path, text: str, expected: str) -> None:
    assert problems(tmp_path, text) == [expected]


def test_what_mergekit_passes_over_is_noted(tmp_path: Path) -> None:
    read = recipe(
        tmp_path,
        """
name: x
author: me
merge_method: slerp
models: [{model: {model: a, extra: 1}, weight: 3}]
parameters: {t: [{filter: mlp, value: [], note: y}, {value: 0.5}], density: 0.3, dtype: bfloat16, smooth: true}
tokenizer: {source: union, fallback: x}
seed: 1
seed: 2
""",
    )
    assert read.parameters == {"t": (Condition("mlp", ()), Condition(None, 0.5))}
    assert read.seed == 2
    assert read.notes == (
        '"seed" is given twice, and the last counts',
        '"name" has no effect',
        '"author" has no effect',
        '"weight" outside "parameters" has no effect',
        '"extra" has no effect',
        '"fallback" has no effect',
        '"note" has no effect',
        '"value" is an empty list, and has no effect',
        'parameter "density" has no effect in slerp',
        (
            'parameter "dtype" has no effect in slerp; the type of the result is the recipe\'s '
            'own "dtype"'
        ),
        'parameter "smooth" has no effect in slerp',
    )


@pytest.mark.parametrize(
    "method", ["karcher", "nearswap", "sce", "arcee_fusion", "ram", "ramplus_tl"]
)
def test_all_methods_of_mergekit_are_known(tmp_path: Path, method: str) -> None:
    assert recipe(tmp_path, f"merge_method: {method}\nmodels: [{{model: a}}]\n").method == method


def test_layers_may_be_written_as_text_and_may_be_none(tmp_path: Path) -> None:
    slices = (
        "- sources: [{model: a, layer_range: ['0', 2.0]}]\n- sources: [{model: a, "
        "layer_range: [2, 2]}]\n"
    )
    read = recipe(tmp_path, f"merge_method: passthrough\nslices:\n{slices}")
    assert [piece.sources[0].layers for piece in read.slices] == [(0, 2), (2, 2)]
    assert read.notes == ("layer_range [2, 2] holds no layers",)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(PomonaError, match=r'no such recipe — did you mean "recipe.yml"\?'):
        recipe(tmp_path, "merge_method: linear\nmodels: [{model: a}]")
        read_recipe(tmp_path / "recipes.yml")
    assert "broken YAML" in problems(tmp_path, "merge_method: [linear\n")[0]
    assert (
        "a recipe is a mapping of keys and values, and this is not"
        in problems(tmp_path, "- linear\n")[0]
    )
    assert "is not YAML" in problems(tmp_path, "merge_method: !!python/object:os.system x\n")[0]


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    text = (
        "merge_method: linear\nmodels:\n- &a {model: a, parameters: {weight: 1}}\n- {<<: *a, "
        "model: b}\n"
    )
    assert [str(source.model) for source in recipe(tmp_path, text).models] == ["a", "b"]


def test_a_mapping_is_a_recipe_too() -> None:
    value: dict[str, Any] = {
        "merge_method": "linear",
        "models": [{"model": "a", "parameters": {"weight": 1}}],
    }
    assert read_recipe(value).raw == value
    with pytest.raises(
        PomonaError,
        match=r'recipe: merge_methd: unknown key "merge_methd": did you mean "merge_method"\?',
    ):
        read_recipe({**value, "merge_methd": 1})


@pytest.mark.parametrize("text", ["a/b", "a/b@main", "a+b", "a@1+b@2"])
def test_names_of_models_survive(text: str) -> None:
    assert str(parse_model(text)) == text
    model, _, lora = text.partition("+")
    assert parse_model({"model": model, "lora": lora or None}) == parse_model(text)


def test_malformed_names_of_models() -> None:
    with pytest.raises(ValueError, match='joined by one "@"'):
        parse_model("a@b@c")
    with pytest.raises(ValueError, match='unknown key "modl": did you mean "model"'):
        parse_model({"modl": "a"})
    assert parse_model({"model": {"path": "odd+name@x"}}).path == "odd+name@x"
