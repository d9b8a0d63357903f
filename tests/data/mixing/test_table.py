from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pomona import records
from pomona.data.mixing import constant, mix, mixture_of, stream
from pomona.documents import read_json
from pomona.errors import PomonaError, ResourceError
from pomona.records import card_of

EN = pa.table(
    {
        "id": [f"en{i}" for i in range(20_000)],
        "text": ["long text"] * 20_000,
        "tags": [["x"]] * 20_000,
    }
)
SW = pa.table({"id": [f"sw{i}" for i in range(30)], "text": ["fupi"] * 30, "score": [0.5] * 30})


def _files(folder: Path) -> dict[str, Path]:
    return {
        "en": records.write(EN, folder / "en.parquet"),
        "sw": records.write(SW, folder / "sw.jsonl"),
    }


def test_mix_writes_rows_in_the_order_of_the_schedule(tmp_path: Path) -> None:
    schedule = [{"to": 0.8, "weights": {"en": 99, "sw": 1}}, {"weights": {"en": 1, "sw": 1}}]
    seen: list[tuple[int, int]] = []
    card = mix(
        _files(tmp_path),
        tmp_path / "out.parquet",
        schedule=schedule,
        total=1000,
        seed=3,
        progress=lambda *at: seen.append(at),
    )
    mixed = records.read(tmp_path / "out.parquet").to_table()
    order = list(
        stream(
            {"en": [1] * 20_000, "sw": [1] * 30},
            constant(mixture_of({"weights": {"en": 1, "sw": 1}}, {"en": 1, "sw": 1})),
            tokens=1000,
            seed=3,
        )
    )
    assert {name for name, _ in order} == {"en", "sw"}
    assert mixed.column_names == ["id", "text", "tags", "score", "dataset", "progress"]
    assert mixed["progress"].to_pylist() == pytest.approx([i / 1000 for i in range(1000)])
    names = mixed["dataset"].to_pylist()
    assert [name[:2] for name in mixed["id"].to_pylist()] == names
    assert (names[:800].count("sw"), names[800:].count("sw")) == (8, 100)
    for row in mixed.to_pylist():
        known = (["x"], None) if row["dataset"] == "en" else (None, 0.5)
        assert (row["tags"], row["score"]) == known
    assert (card.rows_in, card.rows_out, card.groups) == (
        20_030,
        1000,
        {"en": (20_000, 892), "sw": (30, 108)},
    )
    assert seen[-1] == (1000, 1000)


def test_rows_are_those_of_the_stream(tmp_path: Path) -> None:
    card = mix(_files(tmp_path), tmp_path / "out.jsonl", total=20_200, size="rows", seed=1)
    mixed = records.read(tmp_path / "out.jsonl").to_table()
    schedule = constant(mixture_of({}, {"en": 20_000, "sw": 30}))
    order = stream({"en": [1] * 20_000, "sw": [1] * 30}, schedule, tokens=20_200, seed=1)
    assert mixed["id"].to_pylist() == [f"{name}{row}" for name, row in order]
    assert card.signature.startswith("mix|size:rows|total:20200.0|column:dataset|seed:1|version:")


def test_the_card_counts_epochs_and_warns(tmp_path: Path) -> None:
    card = mix(
        _files(tmp_path),
        tmp_path / "out.parquet",
        schedule={"temperature": 3},
        total=3000,
        size="bytes",
        dry_run=True,
    )
    assert not (tmp_path / "out.parquet").exists()
    sizes = {"en": 9 * 20_000, "sw": 4 * 30}
    shares = mixture_of({"temperature": 3}, sizes).shares
    epochs = {item["name"]: item["epochs"] for item in card.details["exposures"]}
    assert epochs == pytest.approx({name: 3000 * shares[name] / sizes[name] for name in sizes})
    assert card.details["warnings"] == []
    much = mix(
        {"sw": SW, "en": EN.slice(0, 10)},
        tmp_path / "out.parquet",
        schedule={"weights": {"sw": 1, "en": 1}},
        total=100,
    )
    assert [warning[:22] for warning in much.details["warnings"]] == ['"en" is seen 5.0 times']
    assert read_json(card_of(tmp_path / "out.parquet"))["details"] == much.details
    assert len(much.details["curve"]) == 4


def test_a_recipe_in_yaml(tmp_path: Path) -> None:
    _files(tmp_path)
    recipe = tmp_path / "mix.yaml"
    recipe.write_text(
        "inputs:\n  en: en.parquet\n  no: [sw.jsonl]\ntotal: 1e3\nseed: 3\nschedule:\n"
        "  - {to: 0.5, weights: {en: 3, no: 1}}\n  - {weights: {no: 1}}\n"
    )
    card = mix(recipe, tmp_path / "out.parquet")
    assert card.groups == {"en": (20_000, 375), "no": (30, 625)}
    same = mix(
        {"en": EN, "no": SW},
        tmp_path / "b.parquet",
        schedule=[{"to": 0.5, "weights": {"en": 3, "no": 1}}, {"weights": {"no": 1}}],
        total=1000,
        seed=3,
    )
    assert same.groups == card.groups
    assert (
        records.read(tmp_path / "out.parquet").to_table()
        == records.read(tmp_path / "b.parquet").to_table()
    )
    with pytest.raises(
        PomonaError, match=r'mix.yaml: "seed" is given here and in the call — give it in one place'
    ):
        mix(recipe, tmp_path / "c.parquet", seed=5)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("schedule: []", "mix.yaml: has no inputs — write inputs: and under it NAME: PATH"),
        ("inputs: {a: b}\nseeds: 1", r'mix.yaml: unknown key "seeds" — did you mean "seed"\?'),
        ("inputs: {a: 1}", 'mix.yaml: the path of "a" is 1 — give a path'),
        ("inputs: {a: b}\ntotal: many", "mix.yaml: \"total\" is 'many' — give a number"),
        ("inputs: {a: b", r"mix.yaml, line 1, column 14: broken YAML: .* — fix the line"),
        (
            "inputs: {a: b}\ntotal: 1\ntotal: 2",
            r'mix.yaml, line 3: the key "total" was already given in line 2',
        ),
    ],
)
def test_a_broken_recipe_is_explained(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "mix.yaml").write_text(text)
    with pytest.raises(PomonaError, match=match):
        mix(tmp_path / "mix.yaml", tmp_path / "out.parquet")


def _refused(match: str, inputs: Any, tmp_path: Path, **options: Any) -> None:
    before = sorted(tmp_path.iterdir())
    with pytest.raises(PomonaError, match=match):
        mix(inputs, tmp_path / "out.parquet", **options)
    assert sorted(tmp_path.iterdir()) == before


def test_mistakes_are_named(tmp_path: Path) -> None:
    both = {"en": EN, "sw": SW}
    _refused(
        r'dataset "sw", .*no.parquet: no such file',
        {"en": EN, "sw": tmp_path / "no.parquet"},
        tmp_path,
    )
    _refused(
        r'dataset "sw", the table: there are no rows', {"en": EN, "sw": SW.slice(0, 0)}, tmp_path
    )
    other = pa.table({"id": [1]})
    _refused(
        r'dataset "x": column "id" is int64 here and string in "en" — write the tables again',
        {"en": EN, "x": other},
        tmp_path,
    )
    _refused(
        r'dataset "en": there is a column "text" already — drop or rename it',
        both,
        tmp_path,
        column="text",
    )
    _refused(
        r'schedule: no input is named "fr"',
        both,
        tmp_path,
        schedule=constant(mixture_of({}, {"en": 1, "sw": 1, "fr": 1})),
    )
    _refused(
        r'schedule: the schedule says nothing of "sw"',
        both,
        tmp_path,
        schedule=constant(mixture_of({}, {"en": 1})),
    )
    _refused(
        r'dataset "en", the table, row 1: column "n" is null',
        {"en": pa.table({"n": pa.array([None], pa.int64())})},
        tmp_path,
        size="n",
    )
    _refused(r"inputs: there are no inputs", {}, tmp_path)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pyarrow.parquet.ParquetWriter.write_batch", full)
    with pytest.raises(ResourceError, match="the disk is full"):
        mix({"en": EN, "sw": SW}, tmp_path / "out.parquet")
    assert not list(tmp_path.iterdir())
