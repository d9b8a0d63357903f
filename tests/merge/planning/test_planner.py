from __future__ import annotations

import json
from pathlib import Path

import pytest

from pomona.merge.plan import MergePlan

from .conftest import LLAMA, jobs, llama, plan, refusal, write


def values(found: MergePlan, key: str) -> dict[str, list[float | None]]:
    """A parameter of every input, by tensor, for the tensors that tell most."""
    short = {
        "embed": "model.embed_tokens.weight",
        "norm": "model.norm.weight",
        "head": "lm_head.weight",
    }
    short |= {
        f"{kind}{layer}": f"model.layers.{layer}.{name}.weight"
        for layer in range(4)
        for kind, name in (("q", "self_attn.q_proj"), ("up", "mlp.up_proj"))
    }
    every = jobs(found)
    return {
        at: [item.parameters.get(key) for item in every[name].inputs]
        for at, name in short.items()
        if name in every
    }


LINEAR = (
    "merge_method: linear\nmodels:\n- {model: a, parameters: {weight: 1}}\n- {model: b, "
    "parameters: {weight: 3}}\n"
)


def test_every_tensor_gets_one_job_in_the_order_of_the_model(here: Path) -> None:
    planned = plan(LINEAR)
    assert [job.name for job in planned.jobs] == [
        "model.embed_tokens.weight",
        *(
            f"model.layers.{layer}.{part}.weight"
            for layer in range(4)
            for part in ("mlp.up_proj", "self_attn.q_proj")
        ),
        "lm_head.weight",
        "model.norm.weight",
    ]
    job = jobs(planned)["model.layers.2.mlp.up_proj.weight"]
    assert (job.shape, job.dtype, job.compute, job.method, job.base) == (
        (4, 4),
        "BF16",
        "BF16",
        "linear",
        None,
    )
    assert job.options == {"normalize": True}
    assert [
        (item.model, item.tensor, item.dtype, item.parameters, item.identity) for item in job.inputs
    ] == [
        (0, job.name, "BF16", {"weight": 1.0}, "a"),
        (1, job.name, "BF16", {"weight": 3.0}, "b"),
    ]
    assert planned.models == (Path("a"), Path("b"))
    assert planned.seed == 0
    assert planned.recipe["merge_method"] == "linear"


def test_gradients_and_filters_as_mergekit_evaluates_them(here: Path) -> None:
    planned = plan("""
slices:
  - sources: [{model: a, layer_range: [0, 4]}, {model: b, layer_range: [0, 4]}]
merge_method: slerp
base_model: b
parameters:
  t:
    - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
    - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}
    - value: 0.5
""")
    every = jobs(planned)
    assert [
        every[f"model.layers.{layer}.self_attn.q_proj.weight"].options["t"] for layer in range(4)
    ] == [
        0.0,
        0.43333333333333335,
        0.5666666666666665,
        1.0,
    ]
    assert [
        every[f"model.layers.{layer}.mlp.up_proj.weight"].options["t"] for layer in range(4)
    ] == [
        1.0,
        0.5666666666666667,
        0.43333333333333335,
        0.0,
    ]
    head = every["lm_head.weight"]
    assert head.options["t"] == 0.5
    assert head.base is not None
    assert (head.base.identity, [item.identity for item in head.inputs]) == ("b", ["a"])


def test_slices_renumber_layers_and_settings_go_from_source_to_slice_to_recipe(here: Path) -> None:
    planned = plan("""
slices:
  - sources:
      - {model: a, layer_range: [0, 2], parameters: {weight: [0, 1]}}
      - model: six
        layer_range: [4, 6]
        parameters: {weight: [{filter: layers.4., value: 7}, {filter: layers.5., value: 8}]}
    parameters: {weight: 5}
  - sources:
      - {model: b, layer_range: [2, 3]}
      - {model: six, layer_range: [0, 1], parameters: {weight: [2, 3]}}
merge_method: linear
parameters: {weight: [10, 20], normalize: [true, false]}
""")
    assert values(planned, "weight") == {  # as mergekit 0.1.5 evaluates this recipe
        "embed": [0, 5],
        "q0": [0, 7],
        "up0": [0, 7],
        "q1": [1, 8],
        "up1": [1, 8],
        "q2": [20, 3],
        "up2": [20, 3],
        "norm": [10, 2],
        "head": [10, 2],
    }
    every = jobs(planned)
    assert [item.tensor for item in every["model.layers.2.mlp.up_proj.weight"].inputs] == [
        f"model.layers.{n}.mlp.up_proj.weight" for n in (2, 0)
    ]
    assert [
        every[name].options["normalize"]
        for name in ("model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight")
    ] == [
        True,
        False,
    ]
    assert planned.config["num_hidden_layers"] == 3


def test_a_slice_may_have_its_own_base(here: Path) -> None:
    planned = plan("""
slices:
  - sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [2, 4]}]
    parameters: {density: 0.2}
  - sources: [{model: b, layer_range: [2, 4], parameters: {density: 0.9}}, {model: c, layer_range: [0, 2]}]
    base_model: c
merge_method: ties
base_model: a
parameters: {weight: [0.5, 1.5], density: 0.5}
""")
    assert values(planned, "weight") == {
        "embed": [0.5],
        "q0": [0.5],
        "up0": [0.5],
        "q1": [1.5],
        "up1": [1.5],
        "q2": [0.5],
        "up2": [0.5],
        "q3": [1.5],
        "up3": [1.5],
        "norm": [0.5],
        "head": [0.5],
    }
    assert values(planned, "density")["q1"] == [0.2]
    assert values(planned, "density")["head"] == [0.9]
    bases = {job.name: job.base.identity for job in planned.jobs if job.base}
    assert (
        bases["model.layers.1.mlp.up_proj.weight"],
        bases["model.layers.2.mlp.up_proj.weight"],
        bases["lm_head.weight"],
    ) == (
        "a",
        "c",
        "c",
    )
    assert jobs(planned)["lm_head.weight"].options == {
        "lambda": 1.0,
        "normalize": True,
        "rescale": False,
        "scope": "tensor",
    }


def test_modules_have_settings_of_their_own(here: Path) -> None:
    planned = plan("""
modules:
  default:
    models:
      - {model: a, parameters: {weight: {filter: lm_head, value: 4}}}
      - model: b
    parameters: {weight: [1, 2, 3, 5]}
merge_method: linear
parameters: {weight: 77}
""")
    assert values(planned, "weight") == {
        "embed": [1, 1],
        "q0": [1, 1],
        "up0": [1, 1],
        "q1": [2, 2],
        "up1": [2, 2],
        "q2": [3, 3],
        "up2": [3, 3],
        "q3": [5, 5],
        "up3": [5, 5],
        "norm": [1, 1],
        "head": [4, 1],
    }


def test_a_base_outside_the_models_is_added_last_and_has_no_weight(here: Path) -> None:
    planned = plan("""
merge_method: dare_ties
base_model: c
models: [{model: a}, {model: b}]
parameters: {weight: 0.5, density: 0.5, int8_mask: true}
""")
    job = planned.jobs[0]
    assert job.base is not None
    assert (job.base.identity, job.base.parameters) == ("c", {})
    assert [dict(item.parameters) for item in job.inputs] == [{"weight": 0.5, "density": 0.5}] * 2
    assert "int8_mask" not in job.options
    assert job.options["rescale"] is True


def test_for_linear_the_base_is_one_more_model(here: Path) -> None:
    text = "merge_method: linear\nbase_model: c\nmodels: [{model: a, parameters: {weight: 1}}]\n"
    assert refusal(text) == (
        'parameters: "weight" of model "c" has no value for tensor '
        '"model.embed_tokens.weight" (and 10 more such tensors) — '
        "the base counts as one more model here: list it with its own weight, which may be 0, or "
        "leave base_model out"
    )
    planned = plan(text + "parameters: {weight: 0.2}\n")
    assert [(item.identity, item.parameters["weight"]) for item in planned.jobs[0].inputs] == [
        ("a", 1.0),
        ("c", 0.2),
    ]


def test_stacked_layers_are_copied(here: Path) -> None:
    text = """
slices:
  - sources: [{model: a, layer_range: [0, 3]}]
  - sources: [{model: b, layer_range: [2, 4], parameters: {scale: {filter: mlp, value: 0.5}}}]
merge_method: passthrough
"""
    planned = plan(text)
    every = jobs(planned)
    assert len(planned.jobs) == 13
    last = every["model.layers.4.self_attn.q_proj.weight"]
    assert (last.method, last.inputs[0].identity, last.inputs[0].tensor) == (
        "copy",
        "b",
        "model.layers.3.self_attn.q_proj.weight",
    )
    assert every["model.layers.4.mlp.up_proj.weight"].method == "passthrough"
    assert every["model.layers.4.mlp.up_proj.weight"].inputs[0].parameters == {"scale": 0.5}
    assert [
        every[name].inputs[0].identity
        for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")
    ] == [
        "a",
        "b",
        "b",
    ]
    assert planned.config["num_hidden_layers"] == 5
    assert plan(text + "dtype: float16\n").jobs[0].method == "passthrough"


def test_lists_with_an_entry_per_layer_follow_the_layers(here: Path) -> None:
    llama(here / "a", layer_types=["full", "full", "slide", "slide"])
    llama(here / "b", layer_types=["w", "x", "y", "z"])
    text = (
        "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [1, 3]}]}, "
        "{sources: [{model: b, layer_range: [3, 4]}]}]\n"
    )
    assert plan(text).config["layer_types"] == ["full", "slide", "z"]


@pytest.mark.parametrize(
    ("lines", "kinds", "expected"),
    [
        ("", ("BF16", "BF16"), ("BF16", "BF16", "bfloat16")),
        ("", ("BF16", "F16"), ("F32", "F32", "float32")),
        ("dtype: float16\n", ("BF16", "BF16"), ("F16", "F16", "float16")),
        ("dtype: float32\nout_dtype: bfloat16\n", ("BF16", "F32"), ("F32", "BF16", "bfloat16")),
        ("out_dtype: float16\n", ("BF16", "BF16"), ("BF16", "F16", "float16")),
    ],
)
def test_types_of_arithmetic_and_result(
    here: Path, lines: str, kinds: tuple[str, str], expected: tuple[str, str, str]
) -> None:
    for name, dtype in zip("ab", kinds, strict=True):
        llama(here / name, dtype=dtype)
    planned = plan(LINEAR + lines)
    assert {(job.compute, job.dtype, planned.config["dtype"]) for job in planned.jobs} == {expected}


def test_config_and_tokenizer_come_from_the_base_or_the_first_model(here: Path) -> None:
    for name, size in (("a", 1), ("b", 2), ("c", 3)):
        llama(here / name, mark=size)
        (here / name / "tokenizer.json").write_text("{}")
        (here / name / "generation_config.json").write_text(f'{{"of": "{name}"}}')
    planned = plan(LINEAR)
    assert (planned.config["mark"], planned.tokenizer, planned.extra["generation_config.json"]) == (
        1,
        Path("a"),
        b'{"of": "a"}',
    )
    planned = plan(
        "merge_method: task_arithmetic\nbase_model: c\nmodels: [{model: b, parameters: "
        "{weight: 1}}]\n"
    )
    assert (planned.config["mark"], planned.tokenizer, planned.extra["generation_config.json"]) == (
        3,
        Path("c"),
        b'{"of": "c"}',
    )


def test_rows_that_stand_for_other_tokens_are_noted(here: Path) -> None:
    for name, tokens in (("a", {"x": 0, "y": 1, "z": 2}), ("b", {"x": 0, "z": 1, "y": 2})):
        (here / name / "tokenizer.json").write_text(json.dumps({"model": {"vocab": tokens}}))
    assert plan(LINEAR).notes == (
        "\"a\" and \"b\" have different tokens for 2 ids, e.g. 1 is 'y' and 'z': "
        "rows are merged by number; tokenizer_source: base or union matches them by token",
    )
    (here / "b" / "tokenizer.json").write_text(
        json.dumps(
            {"model": {"vocab": {"x": 0, "y": 1}}, "added_tokens": [{"id": 2, "content": "z"}]}
        )
    )
    assert plan(LINEAR).notes == ()


def test_the_seed_of_the_call_goes_before_the_recipes(here: Path) -> None:
    assert plan(LINEAR + "seed: 5\n").seed == 5
    planned = plan(LINEAR + "seed: 5\n", seed=6)
    assert (planned.seed, planned.recipe["seed"]) == (6, 6)


def test_a_tied_head_is_read_from_the_embedding(here: Path) -> None:
    llama(here / "b", tied=True)
    planned = plan(LINEAR)
    assert [item.tensor for item in jobs(planned)["lm_head.weight"].inputs] == [
        "lm_head.weight",
        "model.embed_tokens.weight",
    ]
    assert planned.config["tie_word_embeddings"] is False
    reverse = plan(
        "merge_method: linear\nmodels: [{model: b}, {model: a}]\nparameters: {weight: 1}\n"
    )
    assert (
        reverse.config["tie_word_embeddings"] is False
    )  # the head is its own now, so the first model's true would be wrong
    llama(here / "a", tied=True)
    planned = plan(LINEAR)
    assert "lm_head.weight" not in jobs(planned)
    assert planned.config["tie_word_embeddings"] is True


def test_an_embedding_stands_in_for_a_missing_head_that_is_not_tied(here: Path) -> None:
    llama(here / "b", tied=True)
    (here / "b" / "config.json").write_text(json.dumps(LLAMA))
    planned = plan(LINEAR)
    assert [item.tensor for item in jobs(planned)["lm_head.weight"].inputs] == [
        "lm_head.weight",
        "model.embed_tokens.weight",
    ]
    assert planned.notes == (
        (
            '"b" has no lm_head.weight, and its config.json does not tie it: its embedding '
            "stands in, as in mergekit"
        ),
    )


GRANITE = {**LLAMA, "architectures": ["GraniteForCausalLM"], "model_type": "granite"}


@pytest.mark.parametrize(
    ("recipe", "biased", "made"),
    [
        ("merge_method: linear\nparameters: {weight: 1}\n", "ab", "linear of a, b"),
        ("merge_method: linear\nparameters: {weight: 1}\n", "b", "linear of b"),
        ("merge_method: ties\nparameters: {weight: 1}\nbase_model: a\n", "ac", "ties of c on a"),
        ("merge_method: ties\nparameters: {weight: 1}\nbase_model: a\n", "a", "copy of a"),
        ("merge_method: model_stock\nbase_model: a\n", "a", "copy of a"),
        ("merge_method: model_stock\nbase_model: a\n", "ab", "nothing"),
        ("merge_method: nuslerp\nparameters: {weight: 1}\nbase_model: a\n", "c", "copy of c"),
        (
            "merge_method: ties\nparameters: {weight: 1}\nbase_model: a\n",
            "bc",
            'a: has no tensor "model.layers.0.self_attn.q_proj.bias"',
        ),
    ],
)
def test_optional_tensors_come_from_the_models_that_have_them(
    here: Path, recipe: str, biased: str, made: str
) -> None:
    name = "model.layers.0.self_attn.q_proj.bias"
    for model in "abc":
        tensors = {
            "model.embed_tokens.weight": ("BF16", [4, 4]),
            "model.layers.0.mlp.up_proj.weight": ("BF16", [4, 4]),
        }
        write(here / model, tensors | ({name: ("BF16", [4])} if model in biased else {}), GRANITE)
    text = recipe + "models: [{model: a}, {model: b}, {model: c}]\n"
    if made.startswith("a: "):
        assert refusal(text).startswith(made)
        return
    planned = plan(text)
    job = jobs(planned).get(name)
    shown = (
        "nothing"
        if job is None
        else f"{job.method} of {', '.join(item.identity for item in job.inputs)}"
    )
    assert shown + (f" on {job.base.identity}" if job and job.base else "") == made
    what = (
        "left out, since too few models have them"
        if job is None
        else "that come from the models that have them"
    )
    assert planned.notes == (f"optional tensors {what}: 1, the first is {name}",)


def test_tensors_that_are_not_of_floats_must_be_equal(here: Path) -> None:
    tensors: dict[str, tuple[str, list[int]]] = {"w": ("F32", [2]), "steps": ("I64", [3])}
    for name in "ab":
        write(here / name, tensors, LLAMA)
    job = jobs(plan(LINEAR))["steps"]
    assert (job.method, job.dtype, len(job.inputs)) == ("copy", "I64", 1)
    write(here / "b", tensors, LLAMA, fill=1)
    assert refusal(LINEAR) == (
        'b: tensor "steps" (I64) differs between "b" and "a", and only weights in '
        'floating-point numbers can be merged — make them equal, or take those of "a": integers: base'
    )
    found = plan(LINEAR + "integers: base\n")
    assert (jobs(found)["steps"].method, jobs(found)["steps"].inputs[0].identity) == ("copy", "a")
    assert found.notes[-1] == (
        "tensors of whole numbers that are those of the base or first model: 1, the first is steps"
    )
    based = plan(LINEAR + "base_model: b\nintegers: base\n")
    assert jobs(based)["steps"].inputs[0].identity == "b"
    assert 'integers: expected "equal" or "base", found ' in refusal(LINEAR + "integers: mean\n")


def test_counters_of_batches_are_those_of_the_base(here: Path) -> None:
    tensors: dict[str, tuple[str, list[int]]] = {
        "w": ("F32", [2]),
        "bn.num_batches_tracked": ("I64", []),
    }
    for fill, name in enumerate("ab"):
        write(here / name, tensors, LLAMA, fill=fill)
    assert jobs(plan(LINEAR))["bn.num_batches_tracked"].method == "copy"


def test_computed_buffers_are_left_out_and_positions_may_be_missing(here: Path) -> None:
    config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "n_layer": 1}
    write(
        here / "a",
        {"transformer.wte.weight": ("F32", [2, 2]), "transformer.h.0.ln_1.weight": ("F32", [2])},
        config,
    )
    extra = {"h.0.attn.bias": ("U8", [4]), "transformer.position_ids": ("I64", [2])}
    write(
        here / "b",
        {"wte.weight": ("F32", [2, 2]), "h.0.ln_1.weight": ("F32", [2]), **extra},
        config,
    )
    planned = plan(LINEAR)
    made = jobs(planned)
    assert [item.tensor for item in made["transformer.wte.weight"].inputs] == [
        "transformer.wte.weight",
        "wte.weight",
    ]
    assert (
        made["transformer.position_ids"].method,
        made["transformer.position_ids"].inputs[0].identity,
    ) == ("copy", "b")
    assert "transformer.h.0.attn.bias" not in made
    assert planned.notes == (
        (
            "tensors left out, since they are computed from config.json: 1, the first is "
            "transformer.h.0.attn.bias"
        ),
    )


def test_globs_and_expressions_choose_tensors_and_idle_filters_are_noted(here: Path) -> None:
    planned = plan("""
merge_method: linear
models:
  - model: a
    parameters:
      weight: [{filter: "*.mlp.*", value: 2}, {filter: 're:layers\\.[23]\\.', value: 3}, {filter: self_atn, value: 4}, {value: 5}]
  - {model: b, parameters: {weight: 1}}
""")
    assert values(planned, "weight") == {
        "embed": [5, 1],
        "q0": [5, 1],
        "up0": [2, 1],
        "q1": [5, 1],
        "up1": [2, 1],
        "q2": [3, 1],
        "up2": [2, 1],
        "q3": [3, 1],
        "up3": [2, 1],
        "norm": [5, 1],
        "head": [5, 1],
    }
    assert planned.notes == (
        (
            'filter "*.mlp.*" is read as a pattern for the whole name; mergekit would look for '
            "these very letters in it"
        ),
        'filter "self_atn" takes no tensor',
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "merge_method: linear\nmodels: [{model: a, parameters: {weight: 1}}, {model: b}]\n",
            'parameters: "weight" of model "b" has no value for tensor '
            '"model.embed_tokens.weight" (and 10 more such tensors) — '
            'give it to the model or to the recipe: "parameters": {weight: …}',
        ),
        (
            "merge_method: slerp\nmodels: [{model: a}, {model: b}]\nparameters: {t: 0.5}\n",
            "merge_method slerp: needs a base model — add base_model: …",
        ),
        (
            (
                "merge_method: slerp\nbase_model: a\nmodels: [{model: a}, {model: b}, {model: "
                "c}]\nparameters: {t: 0.5}\n"
            ),
            (
                "merge_method slerp: needs exactly 2 models, the base included, found 3: a, b, "
                "c — add or remove models"
            ),
        ),
        (
            "merge_method: model_stock\nbase_model: a\nmodels: [{model: b}]\n",
            (
                "merge_method model_stock: needs at least 3 models, the base included, found 2: "
                "b, a — add or remove models"
            ),
        ),
        (
            "merge_method: passthrough\nbase_model: a\nmodels: [{model: b}]\n",
            (
                "merge_method passthrough: needs exactly 1 model, found 2: b, a — the base "
                "counts as one more model here: leave base_model out"
            ),
        ),
        (
            "merge_method: ties\nbase_model: c\nparameters: {weight: 1}\n"
            "slices: [{sources: [{model: a, layer_range: [0, 2]}, {model: b, layer_range: [0, "
            "2]}]}]\n",
            (
                'merge_method ties: the base "c" is not among the sources of a slice — add it '
                "to the sources, with its layers"
            ),
        ),
        (
            "merge_method: linear\nmodels: [{model: a}, {model: a}]\nparameters: {weight: 1}\n",
            (
                'merge_method linear: "a" is given twice for the same layers — give it once, '
                "with the sum of the weights"
            ),
        ),
        (
            "merge_method: linear\nmodels: [{model: a}, {model: six}]\nparameters: {weight: 1}\n",
            (
                'a: "a" has 4 layers in model.layers and "six" has 6 — say which layers go '
                'together under "slices"'
            ),
        ),
        (
            "merge_method: passthrough\nslices: [{sources: [{model: a, layer_range: [2, 5]}]}]\n",
            (
                'a: layer_range [2, 5] of "a" goes beyond its 4 layers — the end is not '
                "included: at most [0, 4]"
            ),
        ),
        (
            "merge_method: linear\nmodels:\n- {model: a, parameters: {weight: 1}}\n"
            "- {model: b, parameters: {weight: [{filter: mlp, value: -1}, {value: 1}]}}\n",
            'parameters: tensor "model.layers.0.mlp.up_proj.weight": its weights 1, -1 sum '
            "to zero, and normalize divides by the sum "
            "(and 3 more such tensors) — use other weights, or normalize: false",
        ),
        (
            (
                "merge_method: della\nbase_model: a\nmodels: [{model: b, parameters: {weight: "
                "1, density: 0.9, epsilon: 0.2}}]\n"
            ),
            'parameters: tensor "model.embed_tokens.weight": "density" 0.9 ± "epsilon" 0.2 '
            "leaves the range from 0 to 1 "
            "(and 10 more such tensors) — use a smaller epsilon",
        ),
        (
            (
                "merge_method: ties\nbase_model: a\nmodels: [{model: b, parameters: {weight: 1, "
                "density: -1}}]\n"
            ),
            (
                'parameters: tensor "model.embed_tokens.weight": "density" is -1 (and 10 more '
                "such tensors) — use a share from 0 to 1"
            ),
        ),
        (
            (
                "merge_method: linear\nmodules: {vision_tower: {models: [{model: "
                "a}]}}\nparameters: {weight: 1}\n"
            ),
            'a: no tensor belongs to module "vision_tower" — known: default',
        ),
        (
            "merge_method: linear\nmodels: [{model: nowhere}]\n",
            (
                "nowhere: no such folder — give a checkpoint folder, a name of the catalogue or "
                "a Hugging Face id"
            ),
        ),
    ],
)
def test_refusals(here: Path, text: str, expected: str) -> None:
    assert refusal(text) == expected
    assert sorted(path.name for path in here.iterdir()) == ["a", "b", "c", "recipe.yml", "six"]


def test_a_density_above_one_keeps_all_and_is_noted(here: Path) -> None:
    planned = plan(
        "merge_method: ties\nbase_model: a\nmodels: [{model: b, parameters: {weight: 1, "
        "density: 50}}]\n"
    )
    assert planned.notes == ('"density" 50 counts as 1: nothing is dropped',)


def test_a_slice_without_layers_adds_none(here: Path) -> None:
    text = (
        "merge_method: passthrough\nslices:\n- sources: [{model: a, layer_range: [1, 1]}]\n- "
        "sources: [{model: b, layer_range: [0, 2]}]\n"
    )
    planned = plan(text)
    assert planned.config["num_hidden_layers"] == 2
    assert jobs(planned)["model.embed_tokens.weight"].inputs[0].identity == "a"
    assert jobs(planned)["model.layers.0.mlp.up_proj.weight"].inputs[0].identity == "b"


def test_several_refusals_are_said_at_once(here: Path) -> None:
    llama(here / "b", rows=12)
    write(
        here / "c", {"model.embed_tokens.weight": ("BF16", [10, 4]), "extra": ("BF16", [1])}, LLAMA
    )
    said = refusal(
        "merge_method: linear\nmodels: [{model: a}, {model: b}, {model: c}]\nparameters: "
        "{weight: 1}\n"
    ).splitlines()
    assert said == [
        'b: tensor "model.embed_tokens.weight" is [12, 4] in "b" and [10, 4] in "a" (and 1 '
        "more such tensors) — "
        "the vocabularies differ: say whose tokens the result has, e.g. tokenizer_source: union, "
        "or base",
        'a: has no tensor "extra", which "c" has — merge models of one kind, or give a '
        "key_map that says which tensors go together",
        'b: has no tensor "extra", which "c" has — merge models of one kind, or give a '
        "key_map that says which tensors go together",
        'c: has no tensor "model.layers.0.mlp.up_proj.weight", which "a" has (and 8 more '
        "such tensors) — "
        "merge models of one kind, or give a key_map that says which tensors go together",
    ]


def test_other_architectures_are_refused_unless_allowed(here: Path) -> None:
    llama(here / "b", architectures=["MistralForCausalLM"], model_type="mistral")
    assert refusal(LINEAR) == (
        'b/config.json: "b" is a MistralForCausalLM/mistral and "a" a LlamaForCausalLM/llama — '
        "merge models of one architecture, give a key_map, or allow it (--allow-mixed)"
    )
    assert len(plan(LINEAR, allow_mixed=True).jobs) == 11


def test_weights_of_nothing_leave_the_base(here: Path) -> None:
    text = (
        "merge_method: task_arithmetic\nbase_model: a\nmodels: [{model: b, parameters: "
        "{weight: 1}}, {model: c, parameters: {weight: W}}]\n"
    )
    assert (
        plan(text.replace("1}", "0}").replace("W", "0") + "parameters: {normalize: true}\n")
        .jobs[0]
        .method
        == "task_arithmetic"
    )
    assert "sum to zero" in refusal(text.replace("W", "-1") + "parameters: {normalize: true}\n")
    assert plan(text.replace("W", "-1")).jobs  # nothing is divided
    assert (
        plan("merge_method: ties\nbase_model: a\nmodels: [{model: a}]\n").jobs[0].method == "copy"
    )


def test_models_are_found_by_the_caller_or_the_catalogue(here: Path) -> None:
    text = (
        "merge_method: linear\nmodels: [{model: org/one@v1}, {model: org/two}]\nparameters: "
        "{weight: 1}\n"
    )
    asked: list[tuple[str, str | None]] = []

    def resolve(path: str, revision: str | None) -> Path:
        asked.append((path, revision))
        return here / "a"

    planned = plan(text, models={"org/two": here / "b"}, resolve=resolve)
    assert planned.models == (here / "a", here / "b")
    assert asked == [("org/one", "v1")]
    assert (
        len(
            plan(
                (
                    "merge_method: linear\nmodels: [{model: ui-xs}, {model: "
                    "ui-xs@20}]\nparameters: {weight: 1}\n"
                )
                if False
                else LINEAR
            ).jobs
        )
        == 11
    )


def test_a_part_of_a_model_that_sees_is_merged_and_the_rest_copied(here: Path) -> None:
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": {"num_hidden_layers": 2},
    }
    tensors: dict[str, tuple[str, list[int]]] = {
        "language_model.model.embed_tokens.weight": ("F32", [4, 2]),
        "language_model.lm_head.weight": ("F32", [4, 2]),
        "multi_modal_projector.linear_1.weight": ("F32", [2, 2]),
        **{
            f"language_model.model.layers.{n}.mlp.up_proj.weight": ("F32", [2, 2]) for n in range(2)
        },
        **{f"vision_tower.encoder.layers.{n}.mlp.fc1.weight": ("F32", [2, 2]) for n in range(3)},
    }
    for name in "ab":
        write(here / name, tensors, config)
    models = "models: [{model: a, parameters: {weight: [0, 1]}}, {model: b}]"
    whole = plan(f"merge_method: linear\n{models}\nparameters: {{weight: 1}}\n")
    weights = {job.name: job.inputs[0].parameters["weight"] for job in whole.jobs}
    assert [weights[f"vision_tower.encoder.layers.{n}.mlp.fc1.weight"] for n in range(3)] == [
        0,
        0.5,
        1,
    ]
    assert [weights[f"language_model.model.layers.{n}.mlp.up_proj.weight"] for n in range(2)] == [
        0,
        1,
    ]
    planned = plan(
        f"merge_method: linear\nmodules: {{text_decoder: {{{models}}}}}\nparameters: "
        f"{{weight: 1}}\n"
    )
    assert {job.name for job in planned.jobs} == set(tensors)
    assert {job.name.split(".")[0] for job in planned.jobs if job.method == "copy"} == {
        "multi_modal_projector",
        "vision_tower",
    }
    assert planned.notes == (
        'tensors copied from "a": 4, the first is multi_modal_projector.linear_1.weight',
    )
    one = plan(
        "merge_method: passthrough\nmodules: {text_decoder: {slices: [{sources: [{model: b, "
        "layer_range: [1, 2]}]}]}}\n"
    )
    assert one.config["text_config"]["num_hidden_layers"] == 1
    assert refusal(
        "merge_method: passthrough\nslices: [{sources: [{model: b, layer_range: [1, 2]}]}]\n"
    ) == (
        "slices: slices need one stack of layers, and the models have 2: "
        "language_model.model.layers, vision_tower.encoder.layers — "
        'put each under "modules"'
    )


def test_a_text_model_is_merged_into_the_model_that_sees(here: Path) -> None:
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "text_config": {**LLAMA, "num_hidden_layers": 2},
    }
    layers = {f"model.layers.{n}.mlp.up_proj.weight": ("F32", [4, 4]) for n in range(2)}
    seeing = {
        f"language_model.{name}": kind
        for name, kind in {"model.embed_tokens.weight": ("F32", [12, 4]), **layers}.items()
    }
    write(
        here / "a",
        {**seeing, "vision_tower.encoder.layers.0.mlp.fc1.weight": ("F32", [2, 2])},
        config,
    )
    write(here / "b", {"model.embed_tokens.weight": ("F32", [10, 4]), **layers}, LLAMA)
    planned = plan(
        LINEAR + 'key_map: {b: {"model.": "language_model.model."}}\n', work=here / "work"
    )
    every = jobs(planned)
    assert every["vision_tower.encoder.layers.0.mlp.fc1.weight"].method == "copy"
    assert every["language_model.model.embed_tokens.weight"].options == {
        "normalize": True,
        "rows": 10,
        "rows_from": 0,
    }
    merged = every["language_model.model.layers.1.mlp.up_proj.weight"]
    assert [item.tensor for item in merged.inputs] == [
        merged.name,
        "model.layers.1.mlp.up_proj.weight",
    ]
    assert planned.config["model_type"] == "llava"
    based = plan(
        LINEAR.replace("linear", "task_arithmetic") + "base_model: a\nkey_map: auto\n",
        work=here / "work",
    )
    assert jobs(based)["language_model.model.embed_tokens.weight"].options["rows_from"] == -1
    narrower = jobs(plan(LINEAR + "key_map: auto\ndtype: bfloat16\n", work=here / "work"))
    assert narrower["language_model.model.embed_tokens.weight"].dtype == "BF16"
    assert "needs a working folder" in refusal(LINEAR + "key_map: auto\n")


def test_a_hugging_face_id_is_fetched_with_its_revision(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked: list[tuple[str, str | None]] = []

    def fetch(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert not any(pattern.endswith((".bin", ".pt")) for pattern in allow_patterns)
        if name == "org/gone":
            raise OSError("offline\nand more")
        return str(here / "a")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    plan(
        "merge_method: linear\nmodels: [{model: org/one@v1}, {model: b}]\nparameters: {weight: 1}\n"
    )
    assert asked == [("org/one", "v1")]
    assert refusal(
        "merge_method: linear\nmodels: [{model: org/gone}]\nparameters: {weight: 1}\n"
    ) == ("org/gone: not a local folder, and fetching it failed: offline — check the name")
