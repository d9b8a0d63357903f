"""What a model costs, and what that would buy."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from pomona.cli import main
from pomona.errors import PomonaError
from pomona.models import inference_flops, smollm2_path
from pomona.models.locating import folder_of
from pomona.pages import parameters
from pomona.recipe import planned_sizes
from pomona.scale import ModelFlops, SizesFlops, efficiency, flops
from pomona.scale.compute.equivalents import best_tokens
from pomona.scale.laws.forms import PUBLISHED

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def small() -> ModelFlops:
    counted = flops("ui-s", against="ui-l", date="2026-11-28")
    assert isinstance(counted, ModelFlops)
    return counted


def test_four_conventions_stand_side_by_side(small: ModelFlops) -> None:
    ways = {way.convention: way for way in small.conventions}
    assert list(ways) == ["6N, all weights", "6N, without embeddings", "with attention", "exact"]
    assert ways["6N, all weights"].training_flops == 6 * 1_298_416
    assert ways["6N, without embeddings"].training_flops == 6 * (1_298_416 - 6144 * 112)
    body = 4 * (4 * 112 * 112 + 3 * 112 * 304)
    scores = 4 * 4 * 112 * (512 + 1) / 2
    assert small.forward_flops == 2 * (body + 6144 * 112) + scores
    assert ways["exact"].training_flops == small.training_flops == 3 * small.forward_flops
    norms = 9 * 112
    assert ways["with attention"].training_flops == small.training_flops + 6 * norms


def test_a_mask_that_is_computed_costs_twice_the_scores(small: ModelFlops) -> None:
    masked = flops("ui-s", masked=True)
    assert isinstance(masked, ModelFlops)
    rows = [{row.module: row.forward_flops for row in one.modules} for one in (small, masked)]
    assert rows[1]["scores"] == rows[0]["scores"] * 2 * 512 / 513
    assert rows[1]["mlp"] == rows[0]["mlp"]


def test_a_training_is_told_by_the_checkpoint_or_by_the_tokens(small: ModelFlops) -> None:
    said = json.loads((folder_of("ui-s") / "training.json").read_text())
    assert small.training is not None and small.training.source == "training.json"
    assert (small.training.tokens, small.training.flops) == (said["tokens"], said["flops"])
    told = flops("ui-s", tokens=1e9)
    assert isinstance(told, ModelFlops) and told.training is not None
    assert told.training.flops == 1e9 * (told.training_flops or 0)
    assert flops("ui-s@10").training is None  # pyright: ignore[reportAttributeAccessIssue]


def test_equivalents_cost_what_they_are_equal_to(small: ModelFlops) -> None:
    bought, spent = small.equivalents, small.training
    assert bought is not None and spent is not None and small.forward_flops
    assert bought.served_tokens == pytest.approx(spent.flops / small.forward_flops)
    assert bought.served_answers == pytest.approx(spent.flops / bought.sampled_flops)
    assert bought.moved == pytest.approx(1 + 100_000 * bought.sampled_flops / spent.flops)
    grown = bought.sampled_parameters / small.parameters["active"]
    assert grown == pytest.approx(bought.sampled_flops / bought.answer_flops)
    assert 11 < grown < 12  # sixteen times the answers, and the prompt once
    large, rival = flops("ui-l"), small.against
    assert isinstance(large, ModelFlops) and large.training is not None
    assert rival is not None and rival.dearer_from is not None
    more = rival.dearer_from * (bought.sampled_flops - rival.answer_flops)
    assert more == pytest.approx(large.training.flops - spent.flops) and more > 0
    assert rival is not None and rival.samples == 9
    shape = flops_shape("ui-s")
    assert inference_flops(shape, 256, 256, 9) <= rival.answer_flops
    assert inference_flops(shape, 256, 256, 10) > rival.answer_flops


def test_a_signature_names_the_rival(small: ModelFlops) -> None:
    others = [flops("ui-s", against=name, date="2026-11-28") for name in (None, "ui-m")]
    assert len({small.signature, *(one.signature for one in others)}) == 3


def flops_shape(name: str) -> Any:
    from pomona.scale.compute.flops import modules_of

    return modules_of(name, name)[0].shape


def test_one_sample_of_an_answer_is_the_model_itself() -> None:
    one = flops("ui-s", samples=1)
    assert isinstance(one, ModelFlops) and one.equivalents is not None
    assert one.equivalents.sampled_parameters == one.parameters["total"]


def test_the_best_tokens_are_those_of_the_best_split() -> None:
    # No other split of the same compute has a lower loss.
    law = PUBLISHED["besiroglu"]
    for size in (1e8, 7e10):
        tokens = best_tokens(size)
        losses = [float(law.loss(size * by, tokens / by)) for by in (0.95, 1.0, 1.05)]
        assert min(losses) == losses[1]
    assert 10 < best_tokens(7e10) / 7e10 < 40


def test_energy_in_units_that_do_not_slip() -> None:
    # A joule a FLOP: 3.6e6 FLOP are one kilowatt-hour, 50 hours of a brain.
    used = efficiency(flop_per_joule=1.0).energy(3.6e6)
    assert used is not None and (used.kwh, used.brain_hours) == (1.0, 50.0)
    assert used.told() == "1.00 kWh, 2.08 days of a brain (20 W)"
    thousandth = efficiency(flop_per_joule=1.0).energy(3.6e3)
    assert thousandth is not None and thousandth.told() == "1.00 Wh, 3.00 minutes of a brain (20 W)"
    assert efficiency().energy(None) is None
    # Patterson et al. (2021), table 4: GPT-3 took 3.14e23 FLOP at 24.6 TFLOP/s and 330 W, with an
    # overhead of 1.1, which is 1,287 MWh.
    gpt3 = efficiency(flop_per_joule=24.6e12 / (330 * 1.1)).energy(3.14e23)
    assert gpt3 is not None and round(gpt3.kwh / 1000) == 1287
    stated = efficiency("h100", utilisation=0.5, overhead=1.0)
    assert stated.flop_per_joule == pytest.approx(989.4e12 / 700 / 2)
    assert "h100 with 989.4 TFLOP/s at 700 W, 50% of that used" in stated.told()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "h1000"}, 'unknown device "h1000" — did you mean "h100"?'),
        ({"utilisation": 1.5}, "utilisation is 1.5 — give a share above 0, at most 1"),
        ({"overhead": 0.5}, "overhead is 0.5 — give 1 or more"),
        ({"flop_per_joule": 0.0}, "flop_per_joule is 0.0 — give 1 to 1e+30"),
        ({"flop_per_joule": 1e-300}, "flop_per_joule is 1e-300 — give 1 to 1e+30"),
        ({"overhead": 1e308}, "overhead is 1e+308 — give 1 or more, at most 1000"),
    ],
)
def test_an_efficiency_that_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PomonaError) as raised:
        efficiency(**given)
    assert message in str(raised.value)


def test_a_folder_with_a_configuration_is_enough(tmp_path: Path) -> None:
    shutil.copy(folder_of("ui-s") / "config.json", tmp_path)
    for model in (tmp_path, str(tmp_path / "config.json"), f"hf:{tmp_path}"):
        counted = flops(model)
        assert isinstance(counted, ModelFlops)
        assert (counted.parameters["total"], counted.training) == (1_298_416, None)
        assert counted.energy["training"] is None and counted.thresholds.flop is None
    used = counted.equivalents
    assert used is not None and used.served_tokens is used.moved is None


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("nowhere", {}, "nowhere: there is no such model here — give a folder with config.json"),
        ("gguf:nowhere", {}, "nowhere: no such file"),
        ("ui-s", {"context": 0}, "context is 0"),
        ("ui-s", {"samples": 0}, "samples is 0"),
        ("ui-s", {"tokens": -1.0}, "tokens is -1.0"),
        ("ui-s", {"tokens": 1e308}, "tokens is 1e+308 — give a positive number, at most 1e+30"),
        ("ui-s", {"samples": 10**400}, "samples is too large — give a positive number, at most"),
        ("ui-s", {"context": 10**400}, "context is too large"),
        ("ui-s", {"against": "nowhere"}, "nowhere: there is no such model here"),
        ("ui-s", {"date": "now"}, '"now" is no day'),
    ],
)
def test_what_cannot_be_counted_is_refused(model: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(PomonaError) as raised:
        flops(model, **given)
    assert message in str(raised.value)


def test_billions_are_called_so_on_the_page_and_in_words(tmp_path: Path) -> None:
    config = {
        "model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "vocab_size": 128256,
        "num_attention_heads": 64, "num_key_value_heads": 8, "num_hidden_layers": 80,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    counted = flops(tmp_path, page=tmp_path / "page")
    assert isinstance(counted, ModelFlops)
    assert counted.parameters["total"] == 70_553_706_496  # as Llama 3 70B has
    assert "70.6B parameters" in (tmp_path / "page" / "index.html").read_text()
    assert any("a model of 604B parameters" in value for _, value in counted.facts())
    assert [parameters(n) for n in (9.999e8, 9.99e8, 999.7)] == ["1B", "999M", "1k"]


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"model_type": "llama", "hidden_size": -4}')
    with pytest.raises(PomonaError) as raised:
        flops(tmp_path)
    assert str(raised.value).startswith(f'{file}: "hidden_size" is -4')
    file.unlink()
    with pytest.raises(PomonaError, match="is missing"):
        flops(tmp_path)


def test_a_recipe_is_counted_by_its_sizes(tmp_path: Path) -> None:
    counted = flops(planned_sizes(str(ROOT / "examples" / "ladder.yaml")), page=tmp_path)
    assert isinstance(counted, SizesFlops)
    assert {one.model: one.parameters["total"] for one in counted.sizes} == {
        "ui-xs": 493_888, "ui-s": 1_298_416, "ui-m": 2_950_848, "ui-l": 8_164_800,
    }  # fmt: skip
    assert {one.training and one.training.tokens for one in counted.sizes} == {12_000_000}
    page = (tmp_path / "index.html").read_text()
    assert "4 sizes, by module" in page and page.count("data:image/svg") == 6
    assert len(counted.to_json()["sizes"]) == 4


@pytest.mark.skipif(not smollm2_path().is_file(), reason="smollm2 was not pulled")
def test_a_gguf_file_is_counted() -> None:
    counted = flops("smollm2")
    assert isinstance(counted, ModelFlops)
    assert counted.parameters["total"] == 134_515_008


def test_the_command_shows_tables_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert not main(["scale", "flops", "ui-s", "--against", "ui-l", "--flop-per-joule", "1e9"])
    shown = capsys.readouterr().out
    for told in ("6N, without embeddings", "an answer of ui-l pays for: 9 samples", "1e+09 FLOP/J"):
        assert told in shown
    assert not main(["scale", "flops", "ui-s", "--format", "json"])
    told = json.loads(capsys.readouterr().out)
    assert told["parameters"]["non_embedding"] == 610_288 and told["signature"]
    assert math.isclose(sum(row["forward_flops"] for row in told["modules"]), told["forward_flops"])
    assert not main(["scale", "flops", str(ROOT / "examples" / "ladder.yaml")])
    assert "8,164,800" in capsys.readouterr().out
    assert not main(["scale", "thresholds", "2e26", "--date", "2025-01-20"])
    shown = capsys.readouterr().out
    assert "revoked" in shown and "not above" not in shown.split("on 2025-01-20;")[0]
    assert main(["scale", "flops", "nowhere"]) == 2
    assert "there is no such model here" in capsys.readouterr().err
