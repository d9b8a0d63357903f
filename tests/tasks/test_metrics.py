"""Metrics by hand, and what they say about bad input."""

import re
import subprocess
import sys

import numpy as np
import pytest

from pomona.errors import PomonaError
from pomona.tasks import BitsPerByte, ExactMatch, Metric, metric, metrics
from pomona.tasks._metrics import METRICS


def test_bits_per_byte_by_hand() -> None:
    """Tokens of probability 1/2 and 1/4 cost 1 + 2 bits for "né" of 3 bytes; one of 1/8 costs 3
    bits for "a": 6 bits over 4 bytes.
    """
    statistics = BitsPerByte().statistics(
        [np.log([1 / 2, 1 / 4]).astype(np.float32), [np.log(1 / 8)]], ["né", "a"]
    )
    np.testing.assert_allclose(statistics, [[3, 3], [3, 1]], rtol=1e-6)
    assert float(BitsPerByte().aggregate(statistics.sum(0))) == pytest.approx(1.5, rel=1e-6)


@pytest.mark.parametrize(
    ("logprobs", "texts", "message"),
    [
        (
            [[-1.0]],
            [""],
            "item 1: the text is empty, so bits per byte has no value — drop the item",
        ),
        (
            [[-1.0], [-np.inf]],
            ["a", "b"],
            "item 2: a token's log-probability is not finite — score the item again, or drop it",
        ),
        ([[-1.0]], [], "1 outputs but 0 references — give one reference an output"),
    ],
)
def test_bits_per_byte_errors(logprobs: list[list[float]], texts: list[str], message: str) -> None:
    with pytest.raises(PomonaError, match=f"^{re.escape(message)}$"):
        BitsPerByte().statistics(logprobs, texts)


def test_exact_match_ignores_only_whitespace() -> None:
    statistics = ExactMatch().statistics(
        [" two  words\n", "Case", "", "ab"], ["two words", "case", " ", "a b"]
    )
    np.testing.assert_array_equal(statistics, [[1, 1], [0, 1], [1, 1], [0, 1]])
    assert float(ExactMatch().aggregate(statistics.sum(0))) == 50.0


@pytest.mark.parametrize("name", METRICS)
def test_metric_by_name(name: str) -> None:
    measure: Metric = metric(name)
    assert measure.name == name and "version:" in measure.signature
    assert measure.higher_is_better == (name not in ("bits_per_byte", "ter"))
    reads = {"bits_per_byte": "logprobs", "acc": "options", "acc_norm": "options"}
    assert measure.reads == (reads | {"acc_bytes": "options"}).get(name, "text")


def test_metric_names_the_nearest() -> None:
    with pytest.raises(
        PomonaError, match=r'^there is no metric "chr\+\+" — did you mean "chrf\+\+"\?$'
    ):
        metric("chr++")


def test_a_metric_that_cannot_read_what_there_is() -> None:
    told = r'^the metric "acc" reads options, and here is text — use chrf, .*MODULE:FUNCTION$'
    with pytest.raises(PomonaError, match=told):
        metric("acc", reads="text")
    assert metric("ter", reads="text").name == "ter"


def test_several_metrics_of_which_the_first_leads() -> None:
    several = metrics(["chrf", {"name": "chrf", "beta": 1}, "ter"], references=2)
    assert [one.name for one in several] == ["chrf", "chrf1", "ter"]
    assert all(one.signature.startswith("nrefs:2|") for one in several)
    with pytest.raises(
        PomonaError, match=r'^two metrics are called "bleu" — leave one of them out$'
    ):
        metrics(["bleu", "chrf", "bleu"])
    with pytest.raises(PomonaError, match=r"^there is no metric — name at least one$"):
        metrics([])


def test_import_is_light() -> None:
    code = (
        "import sys, pomona.tasks._metrics, pomona.stats.bootstrap; print('numba' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "False"
    )
