from __future__ import annotations

import pytest
import torch

from pomona.train.muon import Muon32, orthogonal

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of torch.optim.Muon


@pytest.mark.parametrize("shape", [(12, 8), (8, 12), (1, 5)])
def test_float32_goes_where_torchs_bfloat16_goes(shape: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(3)
    start, gradients = torch.randn(shape, generator=draw), torch.randn(3, *shape, generator=draw)
    ends = []
    for kind in (Muon32, torch.optim.Muon):
        matrix = torch.nn.Parameter(start.clone())
        made = kind([matrix], lr=0.1, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
        for gradient in gradients:
            matrix.grad = gradient.clone()
            made.step()
        ends.append(matrix.detach())
        assert list(made.state_dict()["state"][0]) == ["momentum_buffer"]
    moved = (ends[1] - start).norm()
    assert (ends[0] - ends[1]).norm() < 0.02 * moved


def test_singular_values_come_near_one_in_the_same_directions() -> None:
    matrix = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    a, b, c = COEFFICIENTS
    values = values / values.norm()
    for _ in range(5):
        values = a * values + b * values**3 + c * values**5
    made = orthogonal(matrix, COEFFICIENTS, 5, 1e-7)
    assert torch.allclose(made, u @ torch.diag(values) @ v, atol=1e-12)
    assert values.min() > 0.6 and values.max() < 1.3
