from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.sample import NAMED, Strategy, parse_strategy
from pomona.sample.strategy import as_mapping

CHOICES: dict[str, dict[str, Any]] = {
    "first": {},
    "random": {},
    "best": {"reward": ["mean", "sum"]},
    "vote": {"extract": ["answer", "number", "boxed", "text"]},
    "mbr": {"utility": ["chrf", "bleu", "embedding", "judge"]},
    "xmbr": {"utility": ["chrf", "bleu"], "evidence": [1, 3, 5]},
    "chops": {"items": [4, 6, 8]},
}


@st.composite
def any_strategy(draw: st.DrawFn) -> Strategy:
    pool = draw(st.sampled_from(["greedy", "sample", "hedged", "ladder"]))
    n = 1 if pool == "greedy" else draw(st.integers(1, 32))
    select = draw(st.sampled_from(list(CHOICES)))
    values: dict[str, Any] = {
        name: draw(st.sampled_from(known)) for name, known in CHOICES[select].items()
    }
    share = st.integers(1, 100).map(lambda x: x / 100)
    values |= {name: draw(st.none() | share) for name in ("temperature", "top_p")}
    values["min_p"] = draw(st.none() | st.integers(0, 99).map(lambda x: x / 100))
    if n >= 3:
        values |= {"stop": draw(st.none() | share), "round": draw(st.integers(1, 9))}
    return Strategy(pool=pool, n=n, select=select, **values)


@given(any_strategy())
def test_names_and_mappings_are_read_back(strategy: Strategy) -> None:
    assert parse_strategy(strategy.name) == strategy
    assert parse_strategy(as_mapping(strategy)) == strategy
    assert strategy.signature == strategy.name


def test_the_names_shown_are_canonical() -> None:
    assert [parse_strategy(name).name for name in NAMED] == list(NAMED)


def test_parts_mean_what_they_say() -> None:
    strategy = parse_strategy("hedged8-xmbr-bleu-t0.7-topp0.9-minp0.05-stop0.8-round2-evidence4")
    assert strategy == Strategy(
        "hedged", 8, "xmbr", 0.7, 0.9, 0.05, utility="bleu", stop=0.8, round=2, evidence=4
    )
    bent = parse_strategy("sample4-first-topk20-freqpen0.5-prespen-0.25-reppen1.1")
    assert parse_strategy(bent.name) == bent
    assert bent.sampling == {
        "top_k": 20,
        "frequency_penalty": 0.5,
        "presence_penalty": -0.25,
        "repetition_penalty": 1.1,
    }
    assert parse_strategy("hedged5").select == "mbr"
    assert parse_strategy("sample").select == "first"
    assert parse_strategy({"name": "hedged5-mbr", "n": 3}) == replace(Strategy("hedged", 3, "mbr"))
    assert parse_strategy({"pool": "hedged"}) == Strategy("hedged", 5, "mbr")


@pytest.mark.parametrize(
    ("given_", "text"),
    [
        ("hedge5", r'there is no strategy "hedge5" — known: greedy, sample, hedged5-mbr'),
        ("", 'there is no strategy ""'),
        ("hedged5-mrb", r'strategy "hedged5-mrb": there is no part "mrb" — did you mean "mbr"\?'),
        ("hedged5-mbr-best", r'"best" is the second select in "hedged5-mbr-best"'),
        ("hedged5-t9", "temperature is 9.0 — use a number above 0 and up to 5"),
        ("hedged5-mbr-topp0", "top_p is 0.0 — use a number above 0 and up to 1"),
        ("hedged5-mbr-reppen0", "repetition_penalty is 0.0 — use a number above 0 and up to 10"),
        ("hedged5-mbr-topk2.5", "top_k is 2.5 — use a whole number from 0 to 2,147,483,647"),
        ("hedged5-mbr-prespen-3", "presence_penalty is -3.0 — use a number from -2 to 2"),
        ("hedged5-mbr-t-1", "temperature is -1.0 — use a number above 0"),
        ("hedged5--mbr", 'there is no part ""'),
        ("hedged999", "n is 999 — use a whole number from 1 to 256"),
        ("hedged0", "n is 0"),
        ("greedy3", "greedy has one answer, not 3 — try hedged3"),
        (
            "hedged5-best-bleu",
            "utility does not belong to best — use it with mbr or xmbr, or leave it out",
        ),
        ("hedged2-vote-stop0.9", "2 answers cannot stop early"),
        ("hedged5-chops-items9", "items is 9 — use a whole number from 4 to 8"),
        ({"nam": "greedy"}, r'there is no setting "nam" — did you mean "name"\?'),
        ({"n": True}, "n is True"),
        ({"n": None}, "n is None"),
        (
            {"select": "best", "n": 2, "pool": "hedged", "reward": "loudness"},
            r'there is no reward "loudness" — known: mean, sum',
        ),
        ({"name": "hedged5-vote", "extract": 3}, "extract is 3 — give text"),
        ({"name": 5}, "name is 5"),
        (["greedy"], r"strategy: is \['greedy'\] — give a name such as hedged5-mbr, or a mapping"),
    ],
)
def test_wrong_strategies_are_named(given_: Any, text: str) -> None:
    with pytest.raises(PomonaError, match=text):
        parse_strategy(given_)


@pytest.mark.parametrize(
    "own",
    [
        {"select": "best", "reward": "os:system"},
        {"select": "best", "reward": "http://h/r"},
        {"select": "vote", "extract": "regex:(a+)+$"},
    ],
)
def test_code_patterns_and_addresses_need_trust(own: dict[str, Any]) -> None:
    given_ = {"pool": "hedged", **own}
    with pytest.raises(PomonaError, match="is code, a pattern or an address"):
        parse_strategy(given_)
    strategy = parse_strategy(given_, trusted=True)
    assert next(iter(own.values())) == strategy.select
    assert list(own.values())[1] in strategy.signature


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(PomonaError, match="the pattern cannot be read"):
        parse_strategy({"name": "hedged5-vote", "extract": "regex:("}, trusted=True)
