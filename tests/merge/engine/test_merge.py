from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pomona.errors import PomonaError
from pomona.merge import merge, merge_many, merge_plan, plan_merge, tensors
from pomona.merge.engine import runner, streams

from .conftest import bf16, llama, read_tensors, shapes

Maker = Callable[..., Path]


def linear(*folders: Path, **more: Any) -> dict[str, Any]:
    models = [
        {"model": str(folder), "parameters": {"weight": weight}}
        for folder, weight in zip(folders, (0.6, 0.4), strict=False)
    ]
    return {"merge_method": "linear", "models": models, "dtype": "bfloat16", **more}


def floats(stored: bytes) -> np.ndarray:
    return (np.frombuffer(stored, np.uint16).astype(np.uint32) << 16).view(np.float32)


def test_a_merge_is_the_sum_and_loads_in_transformers(make: Maker, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    result = merge(linear(make("one", 1), make("two", 2, 3)), tmp_path / "out", threads=1)
    found = read_tensors(tmp_path / "out")
    assert set(found) == set(shapes())
    for name, (dtype, values) in llama(1).items():
        one, two = (
            floats(values.tobytes()).astype(np.float64),
            floats(llama(2)[name][1].tobytes()).astype(np.float64),
        )
        assert found[name][:2] == (dtype, list(values.shape))
        assert np.allclose(floats(found[name][2]), 0.6 * one + 0.4 * two, rtol=2**-8, atol=1e-9)
    assert result.written
    assert result.methods == {"linear": 20}
    assert result.parameters == sum(int(np.prod(shape)) for shape in shapes().values())
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert (
        floats(found["model.norm.weight"][2]).tolist() == model.model.norm.weight.float().tolist()
    )
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")("Datei")["input_ids"]) > 0
    assert GenerationConfig.from_pretrained(tmp_path / "out").do_sample is False
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_threads_memory_blocks_and_shards_of_the_inputs_do_not_change_the_bytes(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = {"scope": "global", "rescale": "l1"}
    sce = {"select_topk": 0.4}
    whole = (
        ("ties", {}),
        ("ties", together),
        ("dare_ties", {"rescale": "l1"}),
        ("sce", sce),
        ("ramplus_tl", {"epsilon": 0.01}),
        ("karcher", {}),
    )
    for method, more in (*whole, ("slerp", {"t": 0.3}), ("arcee_fusion", {})):
        tried = {**recipe, "merge_method": method, "parameters": more}
        if method in ("slerp", "arcee_fusion"):
            tried = {
                **tried,
                "models": [
                    {"model": recipe["base_model"]},
                    {"model": recipe["models"][0]["model"]},
                ],
            }
        name = f"{method}-{len(more)}"
        merge(tried, tmp_path / f"{name}-plain", threads=1, report=False)
        monkeypatch.setattr(streams, "BEST", 40_000)
        monkeypatch.setattr(runner, "_MANY", 5)
        merge(tried, tmp_path / f"{name}-small", threads=3, memory="1MiB", report=False)
        monkeypatch.undo()
        assert read_tensors(tmp_path / f"{name}-plain") == read_tensors(tmp_path / f"{name}-small")


def test_the_chat_template_of_the_recipe_is_the_only_one(make: Maker, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    one = make("one", 1)
    settings = json.loads((one / "tokenizer_config.json").read_text())
    (one / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": "old"}))
    merge(
        linear(one, make("two", 2), chat_template="{{ messages[0].content }}"),
        tmp_path / "out",
        threads=1,
        report=False,
    )
    assert (
        json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["chat_template"]
        == "{{ messages[0].content }}"
    )
    made = AutoTokenizer.from_pretrained(tmp_path / "out").apply_chat_template(
        [{"role": "user", "content": "hi"}], tokenize=False
    )
    assert made == "hi"


def test_a_result_in_shards_holds_the_same_tensors(recipe: dict[str, Any], tmp_path: Path) -> None:
    merge(recipe, tmp_path / "whole", report=False)
    result = merge(recipe, tmp_path / "shards", shard_size="64KiB", report=False)
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert (
        list(result.files[:2])
        == sorted(path.name for path in (tmp_path / "shards").glob("*.safetensors"))
        == files
    )
    assert read_tensors(tmp_path / "shards") == read_tensors(tmp_path / "whole")
    index = json.loads((tmp_path / "shards" / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {
        "total_size": 2 * sum(int(np.prod(shape)) for shape in shapes().values())
    }
    assert index["weight_map"] == {
        name: files[name != "model.embed_tokens.weight"] for name in shapes()
    }


def test_wide_types_come_first_so_that_all_are_aligned(make: Maker, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    odd = {
        "model.layers.0.odd": ("BF16", bf16(np.ones(3))),
        "model.layers.1.wide": ("F32", np.ones(5, np.float32)),
    }
    counts = {"steps": ("I64", np.arange(4)), **odd}
    merge(
        linear(make("one", 1, changed=counts), make("two", 2, changed=counts)) | {"dtype": None},
        tmp_path / "out",
    )
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert found["steps"].tolist() == [0, 1, 2, 3]
    assert found["model.layers.1.wide"].tolist() == [1.0] * 5
    assert found["model.layers.0.odd"].tolist() == [1.0] * 3


def test_the_card_tells_recipe_inputs_seed_and_version(make: Maker, tmp_path: Path) -> None:
    import hashlib

    one, two = make("one", 1, 2), make("two", 2)
    result = merge(linear(one, two), tmp_path / "out", seed=7)
    card = json.loads((tmp_path / "out" / "pomona_merge.json").read_text())
    assert card["seed"] == 7
    assert (
        card["signature"] == result.signature == "merge|method:linear|models:2|seed:7|version:0.1.0"
    )
    assert card["recipe"]["models"][0]["parameters"] == {"weight": 0.6}
    assert card["tensors"] == {"count": 20, "by_method": {"linear": 20}}
    told = {
        (source["model"], file["name"]): file["sha256"]
        for source in card["inputs"]
        for file in source["files"]
    }
    files = [*sorted(one.glob("*.safetensors")), *two.glob("*.safetensors")]
    assert told == {
        (str(file.parent), file.name): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }
    readme = (tmp_path / "out" / "README.md").read_text()
    assert readme.startswith(
        "---\nlibrary_name: transformers\ntags:\n- merge\n- pomona\n---\n# out\n"
    )
    assert all(digest in readme for digest in told.values())


def test_names_from_outside_cannot_break_the_card(make: Maker, tmp_path: Path) -> None:
    one, two = make("a|b<script>", 1), make("```", 2)
    merge(linear(one, two), tmp_path / "out")
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "<script>" not in readme.split("````")[2]
    assert readme.count("````") == 2
    assert "b<script>" not in (tmp_path / "out" / "report.html").read_text()


def test_a_dry_run_tells_all_and_writes_nothing(recipe: dict[str, Any], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    told = merge(recipe, tmp_path / "out", dry_run=True)
    assert sorted(tmp_path.rglob("*")) == before
    size = 2 * sum(int(np.prod(shape)) for shape in shapes().values())
    assert (told.written, told.methods, told.read) == (False, {"ties": 20}, 3 * size)
    assert size < told.disk < size + 10_000
    assert 0 < told.memory < 400_000_000
    assert told.free > 0
    assert told.files == ("model.safetensors",)


def test_many_merges_from_one_reading_are_those_made_alone(
    recipe: dict[str, Any], tmp_path: Path
) -> None:
    plans = []
    for number, weight in enumerate((0.2, 0.5, 1.0)):
        changed = {**recipe, "parameters": {"lambda": weight}}
        plans.append(plan_merge(changed))
        merge_plan(plans[-1], tmp_path / f"alone-{number}")
    seen: list[tuple[int, int]] = []
    outs = [tmp_path / f"many-{number}" for number in range(3)]
    merge_many(plans, outs, threads=2, progress=lambda done, total: seen.append((done, total)))
    for number, out in enumerate(outs):
        alone = tmp_path / f"alone-{number}"
        for name in ("model.safetensors", "pomona_merge.json", "config.json"):
            assert (out / name).read_bytes() == (alone / name).read_bytes()
    size = 2 * sum(int(np.prod(shape)) for shape in shapes().values())
    assert seen[-1] == (3 * size, 3 * size)


def test_tensors_in_memory_are_those_on_the_disk(recipe: dict[str, Any], tmp_path: Path) -> None:
    merge(recipe, tmp_path / "out")
    found = read_tensors(tmp_path / "out")
    for threads in (1, 3):
        made = list(tensors(plan_merge(recipe), threads=threads))
        assert [name for name, _ in made] == [job.name for job in plan_merge(recipe).jobs]
        for name, values in made:
            assert values.dtype == np.uint16
            assert (list(values.shape), values.tobytes()) == found[name][1:]


def test_bad_inputs_leave_nothing(make: Maker, tmp_path: Path) -> None:
    nan = np.full((32,), np.nan, np.float32)
    good, bad = make("good", 1), make("bad", 2, changed={"model.norm.weight": ("BF16", bf16(nan))})
    before = sorted(tmp_path.iterdir())
    with pytest.raises(
        PomonaError,
        match=r'bad.*tensor "model.norm.weight" holds NaN or infinity|holds NaN or infinity',
    ) as caught:
        merge(linear(good, bad), tmp_path / "out")
    assert "bad" in str(caught.value)
    with pytest.raises(PomonaError, match='"2 apples" is not a size — write a number of bytes'):
        merge(linear(good, bad), tmp_path / "out", memory="2 apples")
    with pytest.raises(PomonaError, match="threads: 0 threads do nothing"):
        merge(linear(good, bad), tmp_path / "out", threads=0)
    assert sorted(tmp_path.iterdir()) == before


def test_a_result_that_is_there_is_only_replaced_when_asked_and_whole(
    make: Maker, tmp_path: Path
) -> None:
    one, two = make("one", 1), make("two", 2)
    merge(linear(one, two), tmp_path / "out")
    old = read_tensors(tmp_path / "out")
    with pytest.raises(
        PomonaError,
        match="out: is there already — choose another name, or write over it with --overwrite",
    ):
        merge(linear(two, one), tmp_path / "out")
    assert read_tensors(tmp_path / "out") == old
    merge(linear(two, one), tmp_path / "out", overwrite=True)
    assert read_tensors(tmp_path / "out") != old
    (tmp_path / "out" / "notes.txt").write_text("mine")
    merge(linear(one, two), tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert read_tensors(tmp_path / "out") == old
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters.txt").write_text("dear")
    with pytest.raises(PomonaError, match="home: holds files and is no folder that Pomona made"):
        merge(linear(one, two), tmp_path / "home", overwrite=True)
    assert {path.name for path in tmp_path.iterdir()} <= {"one", "two", "out", "home", "cache"}


def test_a_result_is_never_what_it_is_made_from(make: Maker, tmp_path: Path) -> None:
    one, two = make("one", 1), make("two", 2)
    merge(linear(one, two), tmp_path / "ours")
    ours = read_tensors(tmp_path / "ours")
    (tmp_path / "link").symlink_to("ours")
    for out in (tmp_path / "ours", tmp_path / "link"):
        for options in ({}, {"dry_run": True}):
            with pytest.raises(PomonaError, match="is an input, and the result would replace it"):
                merge(linear(one, tmp_path / "ours"), out, overwrite=True, **options)
    assert read_tensors(tmp_path / "ours") == ours
    for name in (tmp_path, Path("/")):
        with pytest.raises(PomonaError, match=r"no folder that Pomona made|no name for a result"):
            merge(linear(one, two), name, overwrite=True)
    (tmp_path / ".next.partial").mkdir()
    (tmp_path / ".next.partial" / "thesis").write_text("x")
    with pytest.raises(PomonaError, match=r"\.next\.partial: holds files and is no work folder"):
        merge(linear(one, two), tmp_path / "next")
    assert (tmp_path / ".next.partial" / "thesis").is_file()


def test_an_input_that_changes_during_a_merge_is_noticed(
    make: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make("one", 1), make("two", 2)

    def changed(done: int, total: int) -> None:
        if done == total:
            os.utime(one / "model.safetensors", (1, 1))

    with pytest.raises(PomonaError, match="out: an input was changed while it was read"):
        merge(linear(one, two), tmp_path / "out", progress=changed)
    assert not (tmp_path / "out").exists()


def test_a_model_that_changes_after_the_plan_is_refused(make: Maker, tmp_path: Path) -> None:
    one, two = make("one", 1), make("two", 2)
    plan = plan_merge(linear(one, two))
    (two / "model.safetensors").unlink()
    make("other", 2, changed={"model.norm.weight": ("F32", np.ones(32, np.float32))})
    (tmp_path / "other" / "model.safetensors").rename(two / "model.safetensors")
    with pytest.raises(
        PomonaError,
        match=(
            r'tensor "model.norm.weight" is F32 \[32\], planned as BF16 \[32\] — was it '
            r"changed meanwhile"
        ),
    ):
        merge_plan(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()
