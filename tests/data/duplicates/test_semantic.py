from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pomona.data.duplicates.semantic import dedup_semantic, embeddings
from pomona.data.duplicates.semantic_clusters import alike, assign, centres_of
from pomona.errors import PomonaError
from pomona.models import Model, load

TEXTS = [
    "Save the file",
    "Are you sure you want to delete this image?",
    "Save the file",
    "Are you sure you want to delete this document?",
    "The two password fields didn't match.",
    "Save the files",
    "Passwort zurücksetzen",
    "Are you sure you want to delete this image?",
    "界面",
    "Order number",
    "Order numbers",
    "x",
]


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    yield load("ui-xs")


def reference(vectors: np.ndarray, threshold: float, keep: str) -> list[int]:
    """The rows that stay, by comparing all pairs in plain Python."""
    unit = vectors.astype(np.float64) / np.linalg.norm(
        vectors.astype(np.float64), axis=1, keepdims=True
    )
    left, stay = set(range(len(unit))), []
    while left:
        component, front = set(), [min(left)]
        while front:
            row = front.pop()
            component.add(row)
            front += [
                other
                for other in left - component - set(front)
                if unit[row] @ unit[other] >= threshold
            ]
        distinct = [
            row
            for row in sorted(component)
            if not any((unit[row] == unit[other]).all() for other in range(row))
        ]
        firsts = {unit[row].tobytes(): row for row in reversed(range(len(unit)))}
        centre = np.sum([unit[row] for row in firsts.values()], axis=0)
        scores = {"far": unit @ centre, "near": -(unit @ centre), "first": np.arange(len(unit))}[
            keep
        ]
        stay.append(min(distinct, key=lambda row: scores[row]))
        left -= component
    return sorted(stay)


def test_embeddings_are_the_mean_of_the_last_hidden_states(model: Any) -> None:
    vectors = embeddings(model, TEXTS)
    for row, text in enumerate(TEXTS):
        ids = torch.tensor([model.codec.tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            states = model.network(ids, output_hidden_states=True).hidden_states[-1][0]
        np.testing.assert_allclose(vectors[row], states.mean(dim=0).numpy(), atol=2e-5)
    assert vectors.dtype == np.float32 and vectors.shape == (len(TEXTS), 64)


def test_embeddings_do_not_depend_on_the_batch(model: Model) -> None:
    together = embeddings("ui-xs", TEXTS)
    np.testing.assert_allclose(together, embeddings("ui-xs", TEXTS, memory=1), atol=2e-5)
    np.testing.assert_allclose(
        together, np.concatenate([embeddings(model, [text]) for text in TEXTS]), atol=2e-5
    )


def test_a_text_longer_than_the_context_is_read_in_windows(model: Any) -> None:
    text = "Open the settings of the file " * 120
    ids = model.codec.tokenizer(text)["input_ids"]
    assert len(ids) > model.context
    parts = [ids[start : start + model.context] for start in range(0, len(ids), model.context)]
    with torch.inference_mode():
        states = [model.network.model(torch.tensor([part])).last_hidden_state[0] for part in parts]
    np.testing.assert_allclose(
        embeddings(model, [text])[0], torch.cat(states).mean(dim=0).numpy(), atol=2e-5
    )


@pytest.mark.parametrize("keep", ["far", "near", "first"])
@pytest.mark.parametrize("threshold", [0.6, 0.9, 0.999])
def test_one_cluster_equals_brute_force(
    tmp_path: Path, model: Model, keep: Any, threshold: float
) -> None:
    table = pa.table({"text": TEXTS, "id": range(len(TEXTS))})
    vectors = {text: embeddings(model, [text])[0] for text in TEXTS}
    expected = reference(np.array([vectors[text] for text in TEXTS]), threshold, keep)
    card = dedup_semantic(
        table, tmp_path / "out.parquet", model=model, threshold=threshold, clusters=1, keep=keep
    )
    assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == expected
    assert card.removed == {"identical text": 2, "similar text": len(TEXTS) - 2 - len(expected)}


def test_every_removed_row_has_its_evidence(tmp_path: Path, model: Model) -> None:
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    card = dedup_semantic(
        tmp_path / "in.jsonl", tmp_path / "out.jsonl", model=model, threshold=0.9, keep="first"
    )
    pairs = pq.read_table(tmp_path / "out.jsonl.pairs.parquet").to_pylist()
    assert len(pairs) == card.rows_in - card.rows_out == sum(card.removed.values())
    unit = embeddings(model, TEXTS)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    gone = {pair["row"] for pair in pairs}
    for pair in pairs:
        assert pair["cosine"] >= 0.9 and pair["kept"] not in gone
        assert pair["cosine"] == pytest.approx(
            float(unit[pair["row"]] @ unit[pair["neighbour"]]), abs=1e-4
        )
    assert {"row": 2, "kept": 0, "neighbour": 0, "cosine": 1.0, "reason": "identical text"} in pairs
    assert json.loads((tmp_path / "out.jsonl.card.json").read_text())["signature"].startswith(
        "dedup_semantic|column:text|model:ui-xs|"
    )


def test_nothing_that_is_like_another_is_kept(tmp_path: Path, model: Model) -> None:
    table = pa.table({"text": [*TEXTS, "x"], "id": range(len(TEXTS) + 1)})
    out = tmp_path / "out.parquet"
    unit = embeddings(model, [*TEXTS, "x"]).astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    alone = np.flatnonzero((unit @ unit.T >= 0.9).sum(axis=1) == 1)
    card = dedup_semantic(table, out, model=model, threshold=0.9, keep="none")
    assert pq.read_table(out)["id"].to_pylist() == alone.tolist() and len(alone) > 2
    pairs = pq.read_table(f"{out}.pairs.parquet").to_pylist()
    assert card.rows_out + len(pairs) == card.rows_in and 11 not in alone
    assert {
        "row": 11,
        "kept": None,
        "neighbour": 12,
        "cosine": 1.0,
        "reason": "identical text",
    } in pairs
    for pair in pairs:
        assert pair["cosine"] == pytest.approx(
            unit[pair["row"]] @ unit[pair["neighbour"]], abs=1e-4
        )
        assert pair["cosine"] >= 0.9 and pair["kept"] is None


def test_identical_texts_go_whatever_the_clusters_and_the_memory(
    tmp_path: Path, model: Model
) -> None:
    table = pa.table({"text": TEXTS * 3, "id": range(3 * len(TEXTS))})
    for clusters in (1, 3, 10):
        outs = []
        for memory in ("64KiB", "1GiB"):
            card = dedup_semantic(
                table,
                tmp_path / "out.parquet",
                model=model,
                threshold=1.0,
                clusters=clusters,
                memory=memory,
            )
            outs.append(pq.read_table(tmp_path / "out.parquet")["id"].to_pylist())
            assert card.removed["identical text"] == 2 * len(TEXTS) + 2
        assert outs[0] == outs[1] and max(outs[0]) < len(TEXTS)


def test_clusters_part_what_lies_apart_and_blocks_change_nothing() -> None:
    draw = np.random.default_rng(0)
    directions = draw.normal(size=(6, 24))
    vectors = np.repeat(directions, 40, axis=0) + 0.05 * draw.normal(size=(240, 24))
    unit = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)[
        draw.permutation(240)
    ]
    centres = centres_of(unit, 6, 1, 64)
    clusters, _ = assign(unit, centres, 64)
    assert np.bincount(clusters).tolist() == [40] * 6
    assert np.array_equal(centres, centres_of(unit, 6, 1, 64))
    whole, blocks = alike(unit, clusters, 0.97, 512), alike(unit, clusters, 0.97, 7)
    every = alike(unit, np.zeros(240, np.int64), 0.97, 100)
    assert np.array_equal(whole.component, blocks.component) and np.array_equal(
        whole.component, every.component
    )
    assert np.array_equal(whole.neighbour, blocks.neighbour)


def test_a_dry_run_writes_nothing(tmp_path: Path, model: Model) -> None:
    table = pa.table({"text": TEXTS})
    seen: list[tuple[int, int]] = []
    dry = dedup_semantic(
        table,
        tmp_path / "out.parquet",
        model=model,
        dry_run=True,
        progress=lambda *now: seen.append(now),
    )
    assert list(tmp_path.iterdir()) == [] and seen == [(10, 10)]
    written = dedup_semantic(table, tmp_path / "out.parquet", model=model)
    assert dry == replace(written, outputs=())


class _Mute:
    uri = "http://server"


def test_errors_name_what_was_wrong_and_leave_nothing(tmp_path: Path, model: Model) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n{"text": ""}\n')
    good, out = pa.table({"text": ["a", "b"]}), tmp_path / "out.parquet"
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (
            good,
            {"threshold": 95},
            "threshold: 95 is not a cosine above 0 and up to 1 — 0.95 is a start",
        ),
        (good, {"clusters": 0}, "clusters: 0 clusters hold no rows"),
        (good, {"keep": "nearest"}, 'keep: "nearest" is unknown — did you mean "near"'),
        (
            tmp_path / "in.jsonl",
            {},
            r'in\.jsonl, row 2: column "text" is empty — leave out rows without a text',
        ),
        (pa.table({"text": ["a", None]}), {}, 'the table, row 2: column "text" is null'),
        (good, {"model": _Mute()}, "http://server: gives no hidden states — use a torch model"),
        (good, {"model": "ui-z"}, 'unknown model "ui-z"'),
    ]
    for inputs, options, message in cases:
        with pytest.raises(PomonaError, match=message):
            dedup_semantic(inputs, out, **{"model": model, **options})
    with pytest.raises(PomonaError, match="text 2: is empty"):
        embeddings(model, ["a", ""])
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_no_rows_give_no_rows(tmp_path: Path, model: Model) -> None:
    card = dedup_semantic(
        pa.table({"text": pa.array([], pa.string())}), tmp_path / "out.parquet", model=model
    )
    assert (card.rows_in, card.rows_out) == (0, 0)
