from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

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
        (
            "seed: 1",
            'line 1: there are no inputs — write "inputs:" and under it NAME: PATH, one a line',
        ),
        ("inputs:", 'line 1: "inputs" must be a mapping of keys and values, not nothing'),
        ("[1]", "line 1: a mix is a mapping of keys and values, and this is not"),
        ("inputs: {a: b}\nseeds: 1", r'line 2: unknown key "seeds" — did you mean "seed"\?'),
        ("inputs: {a: 1}", 'line 1: "a" must be a path, a glob, or a list of them, not 1'),
        ("inputs: {a: []}", '"a" must be a path, a glob, or a list of them, not a list'),
        ("inputs: {a: b}\ntotal: many", 'line 2: "total" must be a number, not "many"'),
        ("inputs: {a: b}\ntotal: true", 'line 2: "total" must be a number, not true'),
        ("inputs: {a: b}\ntotal: .inf", 'line 2: "total" must be a finite number, not Infinity'),
        ("inputs: {a: b}\ntotal: 1" + "0" * 390, 'line 2: "total" must be a number, not 1000'),
        ("inputs: {a: b}\ntotal: 0", 'line 2: "total" must be more than 0, not 0'),
        ("inputs: {a: b}\nseed: 1.5", 'line 2: "seed" must be a whole number, not 1.5'),
        ("inputs: {a: b}\nsize:", 'line 2: "size" must be text, not nothing'),
        ("inputs: {a: b}\nschedule: []", 'line 2: "schedule" must not be empty'),
        ("inputs: {a: b}\nschedule: 5", 'line 2: "schedule" must be a mapping of keys and values'),
        (
            "inputs: {a: b}\nschedule:\n  - {to: 0.5}\n  - {form: 0.5}",
            r'line 4: unknown key "form" in schedule\[2\] — did you mean "from"\?',
        ),
        (
            "inputs: {a: b}\nschedule:\n  - {to: 0.5}\n  - {from: 0.6}",
            "line 4: phase 2: goes from 0.6 to 1 where 0.5 is reached — let each phase start",
        ),
        ("inputs: {a: b}\nschedule: [{to: 1.5}]", 'line 2: "to" must be at most 1, not 1.5'),
        (
            "inputs: {code: b}\nschedule:\n  weights: {coed: 1}",
            r'line 2: weights: no dataset is named "coed" — did you mean "code"\?',
        ),
        (
            "inputs: {a: b}\nschedule:\n  weights:\n    a: -1",
            'line 4: "a" must be at least 0, not -1',
        ),
        ("inputs: {a: b}\nschedule: {weights: {a: 1e305}}", '"a" must be at most 1e\\+300'),
        ("inputs: {a: b}\nschedule: {weights: {a: 0}}", "no dataset has a weight above 0 — give"),
        (
            "inputs: {a: b}\nschedule: {temperature: 0}",
            '"temperature" must be at least 0.01, not 0',
        ),
        (
            "inputs: {a: b}\nschedule: {temperature: 2, weights: {a: 1}}",
            "mixture: temperature and weights are given together — give one of them",
        ),
        (
            "inputs: {a: b}\nschedule: {sources: {x: {datasets: [b]}}}",
            'source "x": no dataset is named "b" — known: a',
        ),
        (
            "inputs: {a: b}\nschedule: {sources: {x: {weigth: 1}}}",
            r'unknown key "weigth" in schedule.sources.x — did you mean "weight"\?',
        ),
        ("inputs: {a: b", r"mix.yaml, line 1, column 14: broken YAML: .* — fix the line"),
        (
            "inputs: {a: b}\ntotal: 1\ntotal: 2",
            r'mix.yaml, line 3: the key "total" was already given in line 2',
        ),
    ],
)
def test_a_broken_recipe_is_explained(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "mix.yaml").write_text(text)
    with pytest.raises(PomonaError, match=match) as error:
        mix(tmp_path / "mix.yaml", tmp_path / "out.parquet")
    assert str(error.value).startswith(f"{tmp_path / 'mix.yaml'}, line ")
    assert [path.name for path in tmp_path.iterdir()] == ["mix.yaml"]


def test_all_forms_of_a_schedule_are_read_from_yaml(tmp_path: Path) -> None:
    _files(tmp_path)
    for number, schedule in enumerate(
        (
            "",
            "schedule:",
            "schedule: {}",
            "schedule: {temperature: .inf}",
            "schedule: {sources: {x: {weight: 1, datasets: [en]}, sw: {weight: 3}}}",
            "schedule: {sources: {x: {datasets: {en: 0.5, sw: null}}}}",
            "schedule: [{to: 0.5}, {from: 0.5, to: 1, temperature: 2}]",
        )
    ):
        recipe = tmp_path / "mix.yaml"
        recipe.write_text(f"inputs: {{en: en.parquet, sw: sw.jsonl}}\ntotal: 100\n{schedule}\n")
        out = tmp_path / f"{number}.parquet"
        told = yaml.safe_load(schedule) or {}
        plain = mix(
            {"en": EN, "sw": SW}, out, total=100, schedule=told.get("schedule"), dry_run=True
        )
        assert mix(recipe, out, dry_run=True).details == plain.details


@pytest.mark.parametrize(
    ("total", "match"),
    [
        (
            1e10,
            r"total: 1e\+10 in all are 1e\+10 rows, more than 100,000,000 — give a smaller total",
        ),
        (1e300, r"total: 1e\+300 in all are 1e\+300 rows"),
        (float("inf"), "total: inf in all are inf rows"),
        (float("nan"), "tokens: nan is not a number of tokens"),
        (9e7, r'total: 9e\+07 in all show "one" 6e\+07 times, too often — give a smaller total'),
    ],
)
def test_a_total_beyond_measure_is_refused_before_work(
    tmp_path: Path, total: float, match: str
) -> None:
    tables = {"one": pa.table({"text": ["a"]}), "two": pa.table({"text": ["b"]})}
    _refused(match, tables, tmp_path, total=total, schedule={"weights": {"one": 2, "two": 1}})


def test_what_only_the_data_show_names_the_recipe_too(tmp_path: Path) -> None:
    _files(tmp_path)
    (tmp_path / "mix.yaml").write_text("inputs: {en: en.parquet, sw: sw.jsonl}\ntotal: 1e10\n")
    with pytest.raises(PomonaError, match=r"mix.yaml, total: 1e\+10 in all are 1e\+10 rows"):
        mix(tmp_path / "mix.yaml", tmp_path / "out.parquet")


def test_sizes_beyond_whole_numbers_are_refused(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b"], "n": [2**62, 2**62]})
    _refused(
        r'dataset "a": the values of "n" add up to 9.22e\+18 — give sizes of at most 9.01e\+15',
        {"a": table},
        tmp_path,
        size="n",
    )


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
