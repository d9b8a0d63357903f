from __future__ import annotations

import numpy as np
import pytest

from pomona.merge.report.survey import measure_block


@pytest.mark.parametrize("based", [True, False])
def test_measures_add_up_to_those_of_the_whole_tensor(reference, based):
    rng = np.random.default_rng(2)
    values = [rng.standard_normal(9000) * 0.1 for _ in range(3)]
    arrays = [reference.narrow(value, "BF16") for value in values]
    wide = [reference.wide(array, "BF16") for array in arrays]
    taus = np.stack([value - wide[0] for value in wide[1:]] if based else wide)
    own, products, unlike = 0.0, np.zeros(3 if based else 6), 0
    for start in (0, 4000):
        stop = 4000 if start == 0 else 9000
        one = measure_block([array[start:stop] for array in arrays], ["BF16"] * 3, based)
        own, products, unlike = own + one[0], products + one[1], unlike + one[2]
    gram = taus @ taus.T
    assert products == pytest.approx(
        gram[np.triu_indices(len(taus))], rel=1e-6, abs=1e-6 * gram.max()
    )
    assert own == pytest.approx(wide[0] @ wide[0] if based else 0, rel=1e-6)
    assert unlike == ((taus > 0).any(axis=0) & (taus < 0).any(axis=0)).sum()
