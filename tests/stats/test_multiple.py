"""Holm's correction against values computed elsewhere and against its definition."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from pomona.errors import PomonaError
from pomona.stats import benjamini_hochberg, holm


def test_golden_values() -> None:
    """What R's documentation of p.adjust and statsmodels' `multipletests(…, "holm")` give."""
    given_ = [0.01, 0.02, 0.03, 0.04, 0.05]
    np.testing.assert_allclose(holm(given_), [0.05, 0.08, 0.09, 0.09, 0.09], atol=1e-12)
    # Holland & Copenhaver 1987 and the manual of SAS PROC MULTTEST, unordered and with a tie.
    np.testing.assert_allclose(
        holm([0.4, 0.001, 0.03, 0.001, 0.2]), [0.4, 0.005, 0.09, 0.005, 0.4], atol=1e-12
    )
    np.testing.assert_allclose(holm([0.9, 0.8, 0.6]), [1, 1, 1])
    assert holm([0.03]).tolist() == [0.03] and holm([]).tolist() == []


def rejected(p_values: list[float], alpha: float) -> set[int]:
    """The sequential procedure as Holm 1979 states it, without adjusted values."""
    out: set[int] = set()
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    for step, i in enumerate(order):
        if p_values[i] > alpha / (len(p_values) - step):
            break
        out.add(i)
    return out


@given(st.lists(st.floats(0, 1), max_size=12), st.sampled_from([0.01, 0.05, 0.2]))
def test_rejects_what_the_sequential_procedure_rejects(p: list[float], alpha: float) -> None:
    adjusted = holm(p)
    apart = [i for i, value in enumerate(adjusted) if abs(value - alpha) > 1e-12]
    assert {i for i in apart if adjusted[i] <= alpha} == rejected(p, alpha) & set(apart)
    assert np.all(adjusted >= p)


@pytest.mark.parametrize("wrong", [[0.1, 1.2], [-0.1], [float("nan")], [[0.1]]])
def test_what_is_no_p_value_is_refused(wrong: list[float]) -> None:
    with pytest.raises(
        PomonaError, match=r"^p_values: are not between 0 and 1 — give a list of p-values$"
    ):
        holm(wrong)


def test_benjamini_hochberg_against_golden_values() -> None:
    """What R's `p.adjust(…, "BH")` gives, and Benjamini & Hochberg 1995, table 1: four rejected."""
    np.testing.assert_allclose(
        benjamini_hochberg([0.4, 0.001, 0.03, 0.001, 0.2]), [0.4, 0.0025, 0.05, 0.0025, 0.25]
    )
    paper = [.0001, .0004, .0019, .0095, .0201, .0278, .0298, .0344, .0459, .3240, .4262, .5719,
             .6528, .7590, 1.0]  # fmt: skip
    assert int(np.sum(benjamini_hochberg(paper) <= 0.05)) == 4
    assert int(np.sum(holm(paper) <= 0.05)) == 3
    assert benjamini_hochberg([]).tolist() == []
