"""The data and the models that come with the package are what the documents say."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from pomona import models, records, tasks
from pomona.recipe import load_recipe

ROOT = Path(__file__).parents[1]
ASSETS = ROOT / "src/pomona/assets"
LADDER = {"ui-xs": 0.5e6, "ui-s": 1.2e6, "ui-m": 3e6, "ui-l": 8e6}


@pytest.fixture(scope="module")
def ui() -> list[dict[str, str]]:
    return records.read(ASSETS / "ui/ui.parquet").to_table().to_pylist()


def grams(text: str) -> frozenset[str]:
    text = " ".join(text.lower().split())
    return frozenset(text[i : i + 5] for i in range(max(1, len(text) - 4)))


def test_no_test_source_nor_a_near_copy_is_in_train(ui: list[dict[str, str]]) -> None:
    sides: dict[str, set[str]] = defaultdict(set)
    for row in ui:
        sides[row["split"]].add(row["english"])
    assert not sides["test"] & sides["train"]
    train = [grams(text) for text in sorted(sides["train"])]
    for text in sorted(sides["test"]):
        mine = grams(text)
        nearest = max(
            len(mine & other) / len(mine | other)
            for other in train
            if 0.8 * len(mine) <= len(other) <= len(mine) / 0.8
        )
        assert nearest < 0.8, text


def test_the_data_have_a_long_tail_of_languages(ui: list[dict[str, str]]) -> None:
    assert len(ui) > 200_000
    counts = defaultdict(int)
    for row in ui:
        counts[row["lang"]] += 1
    assert len(counts) > 100
    assert {"pt_BR", "cs", "zh_Hans"} <= set(counts)
    assert not {"cs_CZ", "zh_CN", "en", "en_GB"} & set(counts)
    assert sum(n > 4000 for n in counts.values()) >= 15
    assert sum(n < 500 for n in counts.values()) >= 20


def test_everything_together_is_small() -> None:
    assert sum(p.stat().st_size for p in ASSETS.rglob("*") if p.is_file()) <= 60e6


@pytest.mark.parametrize("name", [*LADDER, "ui-s@10", "ui-s@20", "ui-s@40", "ui-s@80"])
def test_a_model_loads_in_transformers_as_it_is(name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = models.locate(name)
    network = AutoModelForCausalLM.from_pretrained(folder)
    assert network.dtype == torch.bfloat16
    assert len(AutoTokenizer.from_pretrained(folder)) == network.config.vocab_size
    assert 0.75 < network.num_parameters() / LADDER[name.split("@", maxsplit=1)[0]] < 1.25


def test_the_ladder_was_trained_alike() -> None:
    told = [json.loads((ASSETS / name / "training.json").read_text()) for name in LADDER]
    assert len({(t["tokens"], t["steps"], t["examples"]) for t in told}) == 1
    for name, about in zip(LADDER, told, strict=True):
        losses = json.loads((ASSETS / name / "losses.json").read_text())
        assert len(losses) == about["steps"]
        assert np.mean(losses[-50:]) < np.mean(losses[:50]) / 1.5


def test_larger_models_translate_better_and_the_largest_beats_copying(
    ui: list[dict[str, str]],
) -> None:
    groups = load_recipe(ROOT / "examples/quickstart.yaml").data.groups
    assert groups is not None
    rows = records.read(ASSETS / "ui/ui.parquet").where(split="test", lang=groups).to_table()
    items = tasks.limit(
        tasks.items_from(rows, "<|{lang}|>{english}<|to|>", "{translation}", "lang"), 6
    )
    chrf = tasks.metric("chrf")

    def value(answers: list[str]) -> float:
        return float(chrf.aggregate(chrf.statistics(answers, items.completions).sum(0)))

    values = {}
    for name in LADDER:
        pools = models.load(name).generate(items.prompts, max_new_tokens=64)
        values[name] = value([pool[0].text for pool in pools])
    copied = value([prompt.split("|>", 1)[1].removesuffix("<|to|>") for prompt in items.prompts])
    assert list(values.values()) == sorted(values.values()), values
    assert values["ui-l"] > copied, (values, copied)
