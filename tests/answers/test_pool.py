from __future__ import annotations

import pytest
from sacrebleu.metrics.chrf import CHRF

from pomona.answers import PoolStats
from pomona.models import Reply, Spent
from pomona.tasks import metric


def pool(*texts: str, temperatures: tuple[float, ...] = (0.0, 0.8, 0.8)) -> list[Reply]:
    pairs = enumerate(zip(texts, temperatures, strict=True))
    return [Reply(text, "stop", Spent(), "m", at, temperature) for at, (text, temperature) in pairs]


def test_hope_and_risk_bound_the_choice() -> None:
    diary = PoolStats(metric("chrf"))
    for _ in range(5):
        diary.add(pool("the cat", "the cat sat", "dog"), 1, reference="the cat sat", group="en")
        diary.add(pool("le chat", "le chat", "chien"), 0, reference="le chat", group="fr")
    overall, en, fr = diary.table()
    assert (overall["group"], overall["n"], en["n"], fr["n"]) == ("overall", 10, 5, 5)
    for row in (overall, en, fr):
        assert row["risk"] <= 0 <= row["chosen"] <= row["hope"]
        for name in ("chosen", "hope", "risk", "distinct", "greedy_picked"):
            assert row[f"{name}_low"] - 1e-9 <= row[name] <= row[f"{name}_high"] + 1e-9
    assert en["greedy"] == pytest.approx(
        CHRF().corpus_score(["the cat"] * 5, [["the cat sat"] * 5]).score, abs=1e-9
    )
    assert en["greedy"] + en["chosen"] == pytest.approx(100)
    assert (en["greedy_picked"], fr["greedy_picked"], overall["greedy_picked"]) == (0, 1, 0.5)
    assert (en["distinct"], fr["distinct"]) == (1, pytest.approx(2 / 3))
    assert overall["greedy_picked_low"] < 0.5 < overall["greedy_picked_high"]


def test_without_references_only_shares_are_told() -> None:
    diary = PoolStats()
    diary.add(pool("a", "b", "b"), 2)
    assert [row["group"] for row in diary.table()] == ["overall"]
    assert "hope" not in diary.table()[0]
    assert PoolStats().table() == []


def test_a_pool_without_a_greedy_answer_is_compared_with_its_first() -> None:
    diary = PoolStats(metric("exact_match"))
    diary.add(pool("a", "b", "b", temperatures=(0.5, 0.5, 0.5)), 0, reference="b", group="overall")
    overall, named = diary.table()
    assert (overall["greedy"], overall["hope"], overall["risk"], overall["greedy_picked"]) == (
        0,
        100,
        0,
        1,
    )
    assert named["group"] == "group overall"
