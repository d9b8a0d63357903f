"""The reference beside this file, and how closely a merge must agree with it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pomona.merge.methods import run
from pomona.merge.plan import TensorInput, TensorJob

UNITS = {
    "BF16": 2**-8,
    "F16": 2**-11,
    "F32": 2**-22,
}  # of the last place, relative; of float32 two, in which all is computed


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "merge_reference", Path(__file__).with_name("reference.py")
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make(reference: ModuleType) -> Callable[..., tuple[TensorJob, list[np.ndarray]]]:
    def build(
        method: str,
        count: int,
        *,
        shape: tuple[int, ...] = (23, 307),
        dtype: str = "BF16",
        based: bool = True,
        apart: float = 0.05,
        options: Mapping[str, Any] | None = None,
        **parameters: Any,
    ) -> tuple[TensorJob, list[np.ndarray]]:
        rng = np.random.default_rng(11)
        start = rng.standard_normal(shape) * 0.02
        models = [start + rng.standard_normal(shape) * 0.02 * apart for _ in range(count)]
        arrays = [
            reference.narrow(values, dtype) for values in ([start, *models] if based else models)
        ]
        inputs = tuple(
            TensorInput(
                i + 1,
                "x",
                dtype,
                {k: v[i] if isinstance(v, list) else v for k, v in parameters.items()},
                f"model-{i}",
            )
            for i in range(count)
        )
        base = TensorInput(0, "x", dtype, {}, "base") if based else None
        return TensorJob(
            "layer.weight", shape, dtype, method, inputs, base, dtype, options or {}
        ), arrays

    return build


@pytest.fixture(scope="session")
def agrees(reference: ModuleType) -> Callable[..., np.ndarray]:
    def check(
        job: TensorJob,
        arrays: list[np.ndarray],
        keep: dict[int, np.ndarray] | None = None,
        seed: int = 0,
    ) -> np.ndarray:
        """The merge in one block is the merge in several, and the reference up to one unit in the
        last place of the stored type.
        """
        merged = run(job, arrays, seed)
        assert np.array_equal(merged, run(job, arrays, seed, block=4500))
        wanted = reference.merge(job, arrays, keep)
        slack = (
            np.abs(wanted) * UNITS[job.dtype]
            + np.abs(wanted).max() * 4e-7
            + (2**-25 if job.dtype == "F16" else 0)
        )
        assert (np.abs(reference.wide(merged, job.dtype) - wanted) <= slack).all()
        if job.dtype == "BF16":
            assert (merged == reference.narrow(wanted, "BF16")).mean() > 0.98
        return merged

    return check
