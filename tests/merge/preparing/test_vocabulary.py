from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.merge.preparing.tokenizer import Tokenizer, align, aligned
from pomona.models.tensors import NewTensor, Stored, View, write_made

WIDTH = 3


def tokenizer(texts: list[str]) -> Tokenizer:
    return Tokenizer(Path(), {}, {text: index for index, text in enumerate(texts)}, {})


def matrix(place: int, rows: int) -> np.ndarray:
    return np.random.default_rng(place).standard_normal((rows, WIDTH)).astype(np.float32)


def written(folder: Path, matrices: list[np.ndarray]) -> list[Stored]:
    made = {
        str(place): NewTensor("F32", values.shape, lambda values=values: [values.tobytes()])
        for place, values in enumerate(matrices)
    }
    write_made(folder, made)
    view = View.of(folder)
    return [view.tensors[str(place)] for place in range(len(matrices))]


def values(made: NewTensor) -> np.ndarray:
    return np.frombuffer(b"".join(made.blocks()), np.float32).reshape(made.shape)


def reference(
    result: list[str],
    models: Mapping[str, list[str]],
    matrices: list[np.ndarray],
    base: str | None,
    tokens: Mapping[str, Any],
) -> list[np.ndarray]:
    """The rules said one by one, in float64: own row, else named source, only holder, base, mean,
    zero.
    """
    names = list(models)
    out = [np.zeros((len(result), WIDTH)) for _ in names]
    for row, text in enumerate(result):
        holders = [
            place
            for place, name in enumerate(names)
            if text in models[name] and models[name].index(text) < len(matrices[place])
        ]
        rows = {
            place: matrices[place][models[names[place]].index(text)].astype(np.float64)
            for place in holders
        }
        rule = tokens.get(text, {})
        if rule.get("source") in names:
            stand_in = rows[names.index(rule["source"])]
        elif rule.get("source"):
            stand_in = np.zeros(WIDTH)
        elif len(holders) > 1 and base is not None and names.index(base) in holders:
            stand_in = rows[names.index(base)]
        else:
            stand_in = np.mean(list(rows.values()), axis=0) if rows else np.zeros(WIDTH)
        for place, _ in enumerate(names):
            out[place][row] = rows[place] if place in rows and not rule.get("force") else stand_in
    return out


@st.composite
def cases(
    draw: st.DrawFn,
) -> tuple[list[str], dict[str, list[str]], list[int], str | None, dict[str, Any]]:
    texts = st.permutations([*"abcdefgh"])
    models = {
        name: draw(texts)[: draw(st.integers(1, 8))]
        for name in ("x", "y", "z")[: draw(st.integers(1, 3))]
    }
    rows = [draw(st.integers(1, len(vocab) + 2)) for vocab in models.values()]
    result = draw(texts)[: draw(st.integers(1, 8))]
    base = draw(st.sampled_from([None, *models]))
    tokens: dict[str, Any] = {}
    for text in draw(st.sets(st.sampled_from(result), max_size=2)):
        holders = [
            n
            for place, n in enumerate(models)
            if text in models[n] and models[n].index(text) < rows[place]
        ]
        tokens[text] = {
            "source": draw(st.sampled_from([{"kind": "zero"}, None, *holders])),
            "force": draw(st.booleans()),
        }
    return result, models, rows, base, tokens


@given(cases())
def test_rows_follow_the_rules(tmp_path_factory: pytest.TempPathFactory, case: Any) -> None:
    result, models, rows, base, tokens = case
    matrices = [matrix(place, count) for place, count in enumerate(rows)]
    stored = written(tmp_path_factory.mktemp("models") / "made", matrices)
    vocabularies = {name: tokenizer(texts).vocab for name, texts in models.items()}
    alignment = align(
        tokenizer(result),
        vocabularies,
        dict(zip(models, rows, strict=True)),
        base=base,
        tokens=tokens,
    )
    for place, expected in enumerate(reference(result, models, matrices, base, tokens)):
        np.testing.assert_allclose(
            values(aligned(alignment, stored, place, "F32")), expected, rtol=1e-6, atol=1e-7
        )


def test_rows_are_copied_to_the_bit_and_padding_is_their_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pomona.models.tensors.files.BLOCK", 6)
    first, second = matrix(0, 3), matrix(1, 4)
    stored = written(tmp_path / "made", [first, second])
    vocabularies = {"x": {"a": 0, "b": 1, "c": 2}, "y": {"d": 0, "b": 1, "a": 3}}
    alignment = align(
        tokenizer([*"abcd"]), vocabularies, {"x": 3, "y": 4}, base=None, tokens={}, multiple=8
    )
    out = values(aligned(alignment, stored, 0, "F32"))
    assert np.array_equal(out[:4], [first[0], first[1], first[2], second[0]])
    np.testing.assert_allclose(out[4:], np.tile(out[:4].mean(0), (4, 1)), rtol=1e-6)
    assert np.array_equal(
        values(aligned(alignment, stored, 1, "F32"))[:4],
        [second[3], second[1], first[2], second[0]],
    )


def test_rows_without_a_token_stay_with_the_owner_of_the_ids(tmp_path: Path) -> None:
    first, second = matrix(0, 3), matrix(1, 2)
    stored = written(tmp_path / "made", [first, second])
    result = Tokenizer(Path(), {}, {"a": 0, "c": 2}, {})
    alignment = align(
        result,
        {"x": {"a": 0, "c": 2}, "y": {"c": 0, "a": 1}},
        {"x": 3, "y": 2},
        base=None,
        owner="x",
        tokens={},
    )
    assert np.array_equal(values(aligned(alignment, stored, 0, "F32")), first)
    assert np.array_equal(
        values(aligned(alignment, stored, 1, "F32")), [second[1], first[1], second[0]]
    )


def test_a_row_may_come_from_another_token(tmp_path: Path) -> None:
    first = matrix(0, 2)
    stored = written(tmp_path / "made", [first])
    rules = {
        "n": {"source": {"kind": "model_token", "model": "x", "token": "b"}},
        "m": {"source": {"kind": "model_token", "model": "x", "token_id": 0}},
    }
    alignment = align(
        tokenizer([*"abnm"]), {"x": {"a": 0, "b": 1}}, {"x": 2}, base=None, tokens=rules
    )
    assert np.array_equal(values(aligned(alignment, stored, 0, "F32")), first[[0, 1, 1, 0]])


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("z", 'tokenizer: tokens: "a": its source "z" is not merged — known: x, y'),
        (
            "y",
            (
                'tokenizer: tokens: "a": "y" has no row for token "a" — name a model that has '
                "it, or {kind: zero}"
            ),
        ),
        ({"kind": "model_token", "model": "x", "token_id": 9}, '"x" has no row for id 9'),
    ],
)
def test_sources_that_lack_the_token_are_refused(source: Any, text: str) -> None:
    with pytest.raises(PomonaError) as error:
        align(
            tokenizer(["a"]),
            {"x": {"a": 0}, "y": {"b": 0}},
            {"x": 1, "y": 1},
            base=None,
            tokens={"a": {"source": source}},
        )
    assert text in str(error.value)


def test_only_rows_may_differ(tmp_path: Path) -> None:
    stored = written(tmp_path / "made", [matrix(0, 2), np.zeros((2, WIDTH + 1), np.float32)])
    alignment = align(
        tokenizer([*"ab"]), {"x": {"a": 0}, "y": {"b": 0}}, {"x": 2, "y": 2}, base=None, tokens={}
    )
    with pytest.raises(PomonaError, match=r"only rows may differ — merge models of one width"):
        aligned(alignment, stored, 0, "F32")
