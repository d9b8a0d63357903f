"""What rewards cost is in the budget, the forecast and the card, and nothing counts twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pomona.errors import PomonaError
from pomona.models import Spent
from pomona.synth.pipeline import expected, synthesize
from pomona.synth.pipeline.run import Silent
from pomona.synth.rewards import likelihood

Written = Callable[..., Path]
LIKELY = "likelihood: {model: judge, prompt: '{text}', raw: true, price: 1}"
TEACHERS = "teachers: {m: {model: m, price: [1, 2]}, n: {model: n, price: [1, 2]}}\n"
FILES = ("rows.parquet", "rejects.parquet", "card.json", "README.md")


class Judge:
    """A model that scores short texts higher; a text is three tokens, its end among them."""

    name = identity = "judge"
    abilities = frozenset({"score"})

    def __init__(self) -> None:
        self.judged: list[str] = []

    def score(self, prompts: list[str], texts: list[str], *, end: bool) -> list[Any]:
        self.judged += texts
        return [np.full(3, -float(len(text)), np.float32) for text in texts]

    def count_tokens(self, prompts: list[str]) -> Any:
        return np.full(len(prompts), 2)

    def cost(self, prompt: int, answer: int) -> Spent:
        return Spent(prompt, answer, 10.0 * (prompt + answer), (prompt + answer) / 1e6)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch, models: dict[str, Any], fake: Any) -> Judge:
    judge = Judge()
    monkeypatch.setattr(likelihood, "load", lambda *_, **__: judge)
    models["n"] = fake(lambda *_: "short", name="n")
    return judge


def tokens(costs: dict[str, Any]) -> int:
    return costs["prompt_tokens"] + costs["completion_tokens"]


def test_rewards_are_in_the_forecast_and_on_the_card(
    tmp_path: Path, written: Written, judge: Judge
) -> None:
    recipe = written(f"{TEACHERS}rewards: {{{LIKELY}}}\nbudget: {{money: 10000}}\n", rows=40)
    most = expected(recipe, tmp_path / "o").to_json()["rewards"]
    assert (most["prompt_tokens"], most["completion_tokens"]) == (160, 80 * 129)
    told = expected(recipe, tmp_path / "o", pilot=10).to_json()
    card = synthesize(recipe, tmp_path / "o").to_json()
    assert card["teachers"]["n"]["rows"] == 40 and len(judge.judged) == 80
    paid = {"prompt_tokens": 160, "completion_tokens": 240, "flops": 4000.0, "cpu_seconds": None}
    for costs in (card["rewards_cost"], told["rewards"]):
        assert costs.pop("money") == pytest.approx(400 / 1e6) and costs == paid
    for kind in ("prompt_tokens", "money"):
        assert told["total"][kind] == pytest.approx(card["cost"][kind])
    assert card["cost"]["prompt_tokens"] == 160 + sum(
        card["teachers"][name]["prompt_tokens"] for name in "mn"
    )
    assert "| (rewards) | | | | 160 | 240 | 4000 |" in (tmp_path / "o" / "README.md").read_text()


def test_what_rewards_cost_is_a_row_of_the_table(
    tmp_path: Path, written: Written, judge: Judge, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from pomona.cli import main

    monkeypatch.setenv("COLUMNS", "160")
    recipe = written(f"{TEACHERS}rewards: {{{LIKELY}}}\n", rows=2)
    assert main(["synth", "run", str(recipe), "--out", str(tmp_path / "o")]) == 0
    lines = capsys.readouterr().out.splitlines()
    told = next(line.split() for line in lines if "(rewards)" in line)
    assert told == ["(rewards)", "—", "—", "—", "8", "12", "2×10²", "0.0000200", "—"]


def test_a_budget_of_money_needs_the_prices_of_rewards(tmp_path: Path, written: Written) -> None:
    for reward in (LIKELY.replace(", price: 1", ""), "http: {url: 'http://h/reward'}"):
        recipe = written(f"{TEACHERS}rewards: {{{reward}}}\nbudget: {{money: 1}}\n")
        name = reward.partition(":")[0]
        with pytest.raises(PomonaError, match=f'line 3: .* needs a price of the reward "{name}"'):
            synthesize(recipe, tmp_path / "o")


def test_rewards_keep_to_the_budget_and_go_on_when_it_is_raised(
    tmp_path: Path, written: Written, judge: Judge, capsys: pytest.CaptureFixture[str]
) -> None:
    from pomona.cli import main

    recipe = written(f"{TEACHERS}rewards: {{{LIKELY}}}\nbudget: {{tokens: 1302}}\n", rows=40)
    words = ["synth", "run", str(recipe), "--out", str(tmp_path / "o"), "--format", "json"]
    assert main(words) == 1
    card = json.loads(capsys.readouterr().out)
    asked = sum(tokens(card["teachers"][name]) for name in "mn")
    rewards = tokens(card["rewards_cost"])
    # Eighty answers took 1,200; 21 are judged for five tokens each, of the last row one of two.
    assert (asked, rewards, len(judge.judged)) == (1200, 105, 21)
    assert card["rows_out"] == 10
    assert card["rejects_by_teacher"]["none"] == {"the budget of tokens is spent": 30}
    recipe.write_text(recipe.read_text().replace("tokens: 1302", "tokens: 9999"))
    assert main(words) == 0
    whole = json.loads(capsys.readouterr().out)
    assert whole["rows_out"] == 40 and len(judge.judged) == 80


def test_after_a_kill_no_reward_and_no_text_that_is_there_twice_counts_twice(
    tmp_path: Path, written: Written, models: dict[str, Any], judge: Judge
) -> None:
    texts = [f"text {at % 90}" for at in range(260)]  # each in a window of its own, and again
    back = "round_trip: {teacher: b}"
    recipe = written(
        "teachers: {m: {model: m}, n: {model: n}, b: {model: m, prompt: 'back {text}'}}\n"
        f"rewards: {{{LIKELY}, {back}}}\nstop: {{window: 50}}\n",
        texts=texts,
    )
    whole = synthesize(recipe, tmp_path / "whole").to_json()
    asked = {(text, lang) for at, text in enumerate(texts) for lang in [("af", "be")[at % 2]]}
    for name, words in (("m", 10), ("n", 10)):
        assert whole["teachers"][name]["prompt_tokens"] == words * len(asked)
        assert whole["teachers"][name]["asked"] == 260
    assert tokens(whole["rewards_cost"]) == 5 * len(set(judge.judged) - {"short"}) + 5 * 90

    class Dying(Silent):
        def advance(self, done: int, total: int) -> None:
            if done == 100:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        synthesize(recipe, tmp_path / "o", progress=Dying())
    synthesize(recipe, tmp_path / "o")
    for name in FILES:
        assert (tmp_path / "o" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
