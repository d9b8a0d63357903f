from __future__ import annotations

import json
from pathlib import Path

import pytest

from pomona.errors import PomonaError
from pomona.merge.preparing.keymap import map_names, propose, renamed, ties_in
from pomona.models.tensors import Stored, View

TEXT = {
    "model.embed_tokens.weight": (10, 4),
    "model.layers.0.mlp.up_proj.weight": (6, 4),
    "model.layers.0.input_layernorm.weight": (4,),
    "model.norm.weight": (4,),
    "lm_head.weight": (10, 4),
}
VISION = {
    "vision_tower.layers.0.mlp.up_proj.weight": (5, 4),
    "vision_tower.layers.0.input_layernorm.weight": (4,),
    "connector.weight": (4, 4),
}
OLD = {f"language_model.{name}": shape for name, shape in TEXT.items()}
NEW = {name.replace("model.", "model.language_model."): shape for name, shape in TEXT.items()}


def view(folder: Path, shapes: dict[str, tuple[int, ...]], *, tie: bool = False) -> View:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"tie_word_embeddings": tie}))
    return View(
        folder, {name: Stored("F32", shape, folder, name) for name, shape in shapes.items()}
    )


@pytest.mark.parametrize(
    ("backbone", "proposed"),
    [
        (OLD, {"": "language_model."}),
        (NEW, {"lm_head.": "lm_head.", "model.": "model.language_model."}),
    ],
)
def test_the_map_is_proposed_and_everything_accounted_for(
    tmp_path: Path, backbone: dict[str, tuple[int, ...]], proposed: dict[str, str]
) -> None:
    text, whole = view(tmp_path / "text", TEXT), view(tmp_path / "vlm", {**backbone, **VISION})
    assert propose(text, whole, "text") == proposed
    mapped = map_names({"text": text, "vlm": whole}, "auto", base="text")
    assert mapped.frame == "vlm"
    assert list(mapped.views) == ["text", "vlm"]
    assert mapped.copied == VISION.keys()
    assert set(mapped.views["text"].names) == backbone.keys()
    assert {mapped.views["text"].locate(name)[1] for name in backbone} == TEXT.keys()
    assert mapped.short == {}
    assert (
        '5 tensors merged, 3 copied from "vlm": connector.* (1), vision_tower.* (2)' in mapped.notes
    )


def test_a_longer_vocabulary_is_no_obstacle(tmp_path: Path) -> None:
    longer = {name: (12, 4) if shape == (10, 4) else shape for name, shape in OLD.items()}
    mapped = map_names(
        {
            "vlm": view(tmp_path / "vlm", {**longer, **VISION}),
            "text": view(tmp_path / "text", TEXT),
        },
        {"text": "auto"},
    )
    assert mapped.short == {
        "text": ("language_model.lm_head.weight", "language_model.model.embed_tokens.weight")
    }


def test_a_written_map_takes_the_longest_prefix(tmp_path: Path) -> None:
    rule = {"model.": "a.", "model.layers.": "b.", "lm_head.": "c."}
    names = renamed(view(tmp_path / "text", TEXT), rule, "text").names
    assert names == [
        "a.embed_tokens.weight",
        "a.norm.weight",
        "b.0.input_layernorm.weight",
        "b.0.mlp.up_proj.weight",
        "c.weight",
    ]


@pytest.mark.parametrize(
    "rule",
    [
        {r"re:^model[.](?!norm)(.+)": r"body.\1", "*norm.gamma": "*norm.weight", "lm_": "out_"},
        {"*.norm.?amma": "*.norm.weight", "*layernorm.gamma": "*layernorm.weight"}
        | {"model.layers.*": "body.layers.*", "model.embed_": "body.embed_", "lm_": "out_"},
        {"re:gamma$": "weight", r"re:^model([.])(layers|embed)": r"body\1\2", "lm_": "out_"},
    ],
)
def test_patterns_apply_one_after_another_and_prefixes_last(
    tmp_path: Path, rule: dict[str, str]
) -> None:
    stored = {name.replace("norm.weight", "norm.gamma"): shape for name, shape in TEXT.items()}
    new = renamed(view(tmp_path / "text", stored), rule, "text")
    assert new.names == [
        "body.embed_tokens.weight",
        "body.layers.0.input_layernorm.weight",
        "body.layers.0.mlp.up_proj.weight",
        "model.norm.weight",
        "out_head.weight",
    ]
    assert new.locate("model.norm.weight")[1] == "model.norm.gamma"


def test_a_tied_head_is_read_from_the_embedding(tmp_path: Path) -> None:
    tied = view(
        tmp_path / "text",
        {name: shape for name, shape in TEXT.items() if name != "lm_head.weight"},
        tie=True,
    )
    mapped = map_names({"vlm": view(tmp_path / "vlm", {**OLD, **VISION}), "text": tied}, "auto")
    assert mapped.views["text"].locate("language_model.lm_head.weight") == (
        tmp_path / "text",
        "model.embed_tokens.weight",
    )
    assert mapped.copied == VISION.keys()


def test_a_head_stored_twice_is_no_extra_tensor(tmp_path: Path) -> None:
    frame = {name: shape for name, shape in {**OLD, **VISION}.items() if "lm_head" not in name}
    mapped = map_names(
        {
            "vlm": view(tmp_path / "vlm", frame, tie=True),
            "text": view(tmp_path / "text", TEXT, tie=True),
        },
        "auto",
    )
    assert "language_model.lm_head.weight" not in mapped.views["text"].tensors


def test_two_places_that_fit_are_a_question(tmp_path: Path) -> None:
    twice = {
        f"{tower}.{name}": shape for tower in ("left", "right") for name, shape in TEXT.items()
    }
    with pytest.raises(PomonaError) as error:
        propose(view(tmp_path / "text", TEXT), view(tmp_path / "vlm", twice), "text")
    assert str(error.value) == (
        'key_map: auto: "lm_head." of "text" fits "left.lm_head.", "right.lm_head." — write '
        'key_map: {"text": {"lm_head.": …}}'
    )


def test_a_model_of_another_family_has_no_place(tmp_path: Path) -> None:
    other = {name.replace("up_proj", "w1"): shape for name, shape in TEXT.items()}
    with pytest.raises(
        PomonaError,
        match=(
            r'finds no place for "model\.\S+" and 3 more tensors of "text" in .*vlm — are '
            r"these models"
        ),
    ):
        propose(view(tmp_path / "text", TEXT), view(tmp_path / "vlm", other), "text")


@pytest.mark.parametrize(
    ("key_map", "text"),
    [
        ("all", 'key_map: "all" is no key map — write "auto" or {MODEL: {PREFIX: PREFIX}}'),
        ({"txt": "auto"}, 'key_map: has no model "txt" — did you mean "text"?'),
        (
            {"text": "auto", "vlm": "auto"},
            "key_map: maps every model — leave out the model whose names the result shall have",
        ),
        (
            {"text": {"modl.": "x."}},
            (
                'key_map: no tensor of "text" begins with "modl." — its tensors begin with '
                '"lm_head.", "model."'
            ),
        ),
        (
            {"text": {"*.gamma": "*.weight", "model.": "x."}},
            'key_map: no tensor of "text" matches "*.gamma" — its tensors begin with "lm_head.", ',
        ),
        (
            {"text": {"re:[a-z_]+_proj": "norm", "*input_layernorm*": "*mlp.norm*"}},
            'gives two tensors of "text" the name "model.layers.0.mlp.norm.weight": '
            '"model.layers.0.mlp.up_proj.weight" and "model.layers.0.input_layernorm.weight" — make',
        ),
        (
            {"text": {"model.": "language_model.model."}},
            '1 tensor of "text" has no partner in "vlm": lm_head.weight',
        ),
        (
            {"text": {"model.layers.0.input_layernorm": "model.norm"}},
            'gives two tensors of "text" the name "model.norm.weight"',
        ),
    ],
)
def test_wrong_maps_are_explained(
    tmp_path: Path, key_map: dict[str, dict[str, str]], text: str
) -> None:
    views = {
        "vlm": view(tmp_path / "vlm", {**OLD, **VISION}),
        "text": view(tmp_path / "text", TEXT),
    }
    with pytest.raises(PomonaError) as error:
        map_names(views, key_map)
    assert text in str(error.value)


def test_a_tensor_that_some_but_not_all_others_have_is_an_error(tmp_path: Path) -> None:
    whole = {**OLD, **VISION}
    views = {
        "one": view(tmp_path / "1", whole),
        "two": view(tmp_path / "2", whole),
        "text": view(tmp_path / "text", TEXT),
    }
    with pytest.raises(
        PomonaError,
        match=(
            r'"connector.weight" is in "one" and "two" but not in "text" — merge without '
            r'"text" first'
        ),
    ):
        map_names(views, "auto")


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        ({}, True),
        ({"tie_word_embeddings": False}, False),
        ({"text_config": {"tie_word_embeddings": False}}, False),
    ],
)
def test_ties_are_read_as_transformers_reads_them(
    tmp_path: Path, config: dict[str, object], tied: bool
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert ties_in(tmp_path) is tied
