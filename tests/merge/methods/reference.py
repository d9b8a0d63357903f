"""The merge methods written down once more from their formulas: plain NumPy in float64, whole
tensors, no thought of speed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pomona.merge.plan import TensorJob


def wide(values: np.ndarray, dtype: str) -> np.ndarray:
    return (
        (values.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else values
    ).astype(np.float64)


def narrow(values: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "BF16":
        bits = values.astype(np.float32).view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return values.astype({"F16": np.float16, "F32": np.float32, "F64": np.float64}[dtype])


def merge(
    job: TensorJob,
    arrays: list[np.ndarray],
    keep: dict[int, np.ndarray] | None = None,
    probability: Any = None,
) -> np.ndarray:
    """float64 result. keep: for methods that draw, what was drawn for each input."""
    inputs = (job.base, *job.inputs) if job.base else job.inputs
    values = [
        wide(array, item.dtype).reshape(job.shape)
        for array, item in zip(arrays, inputs, strict=True)
    ]
    return METHODS[job.method](job, values, keep or {})


def _weights(job: TensorJob) -> list[float]:
    return [float(item.parameters.get("weight", 1.0)) for item in job.inputs]


def linear(job: TensorJob, values: list[np.ndarray], keep: Any) -> np.ndarray:
    weights = _weights(job)
    total = sum(w * v for w, v in zip(weights, values, strict=True))
    return total / sum(weights) if job.options.get("normalize", True) else total


def passthrough(job: TensorJob, values: list[np.ndarray], keep: Any) -> np.ndarray:
    return values[0] * job.inputs[0].parameters.get("scale", 1.0)


def task_arithmetic(job: TensorJob, values: list[np.ndarray], keep: Any) -> np.ndarray:
    base, *models = values
    weights = _weights(job)
    total = sum(w * (v - base) for w, v in zip(weights, models, strict=True))
    if job.options.get("normalize") and abs(sum(weights)) >= 1e-8:
        total = total / sum(weights)
    return base + job.options.get("lambda", 1.0) * total


def _spherical(
    t: float, a: np.ndarray, b: np.ndarray, cos: np.ndarray, line: np.ndarray
) -> np.ndarray:
    angle = np.arccos(np.where(line, 0, np.clip(cos, -1, 1)))
    bent = (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
    return np.where(line, (1 - t) * a + t * b, bent)


def slerp(job: TensorJob, values: list[np.ndarray], keep: Any) -> np.ndarray:
    a, b = values
    norms = [np.linalg.norm(v.reshape(-1)) for v in values]
    norms = [n if n > 1e-8 else 1.0 for n in norms]
    cos = (a.reshape(-1) / norms[0]) @ (b.reshape(-1) / norms[1])
    return _spherical(float(job.options["t"]), a, b, cos, np.abs(cos) > 0.9995)


def nuslerp(job: TensorJob, values: list[np.ndarray], keep: Any) -> np.ndarray:
    base = values.pop(0) if job.base else np.zeros(job.shape)
    a, b = (v - base for v in values)
    first, second = _weights(job)
    t = 0.5 if abs(first + second) < 1e-6 else second / (first + second)
    axis: Any = -1 if not job.options.get("nuslerp_row_wise") else 0
    if job.options.get("nuslerp_flatten", True):
        axis = None
    lengths = [np.maximum(np.sqrt((v * v).sum(axis=axis, keepdims=True)), 1e-7) for v in (a, b)]
    cos = (a / lengths[0] * (b / lengths[1])).sum(axis=axis, keepdims=True)
    return base + _spherical(t, a, b, cos, 1 - cos**2 <= 1e-16)


def multislerp(job: TensorJob, values: list[np.ndarray], keep: Any) -> np.ndarray:
    base = values.pop(0) if job.base else np.zeros(job.shape)
    if len(values) == 1:
        return values[0]
    weights, eps = np.array(_weights(job)), job.options.get("eps", 1e-8)
    if job.options.get("normalize_weights", True):
        weights = weights / weights.sum()
    flat = np.stack([(v - base).reshape(-1) for v in values])
    norms = np.linalg.norm(flat, axis=1)
    units = flat / (norms[:, None] + eps)
    mean = weights @ units
    mean /= np.linalg.norm(mean)
    tangent = weights @ (units - (units @ mean)[:, None] * mean)
    step = np.linalg.norm(tangent) + eps
    return base + (
        (mean * np.cos(step) + tangent * np.sin(step) / step) * (norms @ weights)
    ).reshape(job.shape)


def model_stock(job: TensorJob, values: list[np.ndarray], keep: Any) -> np.ndarray:
    base, *models = values
    axis: Any = -1 if job.options.get("filter_wise") else None
    taus = [v - base for v in models]
    cosines = []
    for i, a in enumerate(taus):
        for b in taus[i + 1 :]:
            lengths = np.sqrt((a * a).sum(axis=axis, keepdims=True)) * np.sqrt(
                (b * b).sum(axis=axis, keepdims=True)
            )
            cosines.append(
                np.clip((a * b).sum(axis=axis, keepdims=True) / np.maximum(lengths, 1e-6), -1, 1)
            )
    cos, count = sum(cosines) / len(cosines), len(taus)
    below = 1 + (count - 1) * cos
    t = np.where(np.abs(below) < 1e-6, 0, count * cos / np.where(np.abs(below) < 1e-6, 1, below))
    return t * sum(models) / count + (1 - t) * base


def thinned(job: TensorJob, place: int, tau: np.ndarray, kept: np.ndarray | None) -> np.ndarray:
    item = job.inputs[place]
    density, count = item.parameters.get("density", 1.0), tau.size
    if density >= 1:
        return tau
    if density <= 0:
        return np.zeros_like(tau)
    size = np.abs(tau).reshape(-1)
    order = np.sort(size)
    kind = job.method.partition("_")[0]
    if kind == "ties":
        kept = size >= order[count - max(1, int(density * count))]
    elif kind == "breadcrumbs":
        target = int(density * count)
        low = max(0, count - target - int(item.parameters.get("gamma", 0.01) * count))
        kept = (
            (size >= order[low]) & (size <= order[low + target - 1])
            if target
            else np.zeros(count, bool)
        )
    assert kept is not None
    left = np.where(kept.reshape(tau.shape), tau, 0)
    rescale = job.options.get("rescale", False)
    if rescale in (True, "l1") and np.abs(tau).sum() >= 1e-7 and np.abs(left).sum() >= 1e-7:
        return left * (np.abs(tau).sum() / np.abs(left).sum())
    if rescale == "expected":
        drawn = round(density * 2**16) / 2**16 if kind == "dare" else density
        return left / (probabilities(item, tau) if kind == "della" else drawn)
    return left


def probabilities(item: Any, tau: np.ndarray) -> np.ndarray:
    rows = np.abs(tau).reshape(-1, tau.shape[-1])
    ranks = np.argsort(np.argsort(rows, axis=1, kind="stable"), axis=1, kind="stable")
    density, epsilon = item.parameters["density"], item.parameters.get("epsilon", 0.15)
    share = ranks / (rows.shape[1] - 1) if rows.shape[1] > 1 else np.full(rows.shape, 0.5)
    return (density - epsilon + 2 * epsilon * share).reshape(tau.shape)


def sparse(job: TensorJob, values: list[np.ndarray], keep: dict[int, np.ndarray]) -> np.ndarray:
    base, *models = values
    weights = np.array(_weights(job)).reshape(-1, *[1] * base.ndim)
    taus = (
        np.stack([thinned(job, place, v - base, keep.get(place)) for place, v in enumerate(models)])
        * weights
    )
    normalize, scale = job.options.get("normalize", False), job.options.get("lambda", 1.0)
    if job.method in ("ties", "dare_ties", "della", "breadcrumbs_ties"):
        agrees = np.sign(taus) == np.where(
            taus.sum(axis=0) >= -1e-12 * np.abs(taus).sum(axis=0), 1, -1
        )
        divisor = (weights * agrees).sum(axis=0)
        mixed = (taus * agrees).sum(axis=0) / (
            np.where(np.abs(divisor) <= 3e-7 * np.abs(weights).sum(), 1, divisor)
            if normalize
            else 1
        )
        return base + scale * mixed
    total = weights.sum()
    return base + scale * taus.sum(axis=0) / (total if normalize and abs(total) >= 1e-8 else 1)


def karcher(job: TensorJob, values: list[np.ndarray], keep: Any) -> np.ndarray:
    lengths = [np.linalg.norm(v) for v in values]
    tol = float(job.options["tol"])
    units = [v / n for v, n in zip(values, lengths, strict=True) if n > tol]
    mean = sum(units) / np.linalg.norm(sum(units))
    for _ in range(int(job.options["max_iter"])):
        angles = [np.arccos(np.clip((mean * unit).sum(), -1, 1)) for unit in units]
        tangent = sum(
            a / np.sin(a) * (u - np.cos(a) * mean)
            for a, u in zip(angles, units, strict=True)
            if a >= tol
        ) / len(units)
        step = np.linalg.norm(tangent)
        if step < tol:
            break
        mean = np.cos(step) * mean + np.sin(step) * tangent / step
        mean = mean / np.linalg.norm(mean)
    return np.mean(lengths) * mean


def nearswap(job: TensorJob, values: list[np.ndarray], keep: Any) -> np.ndarray:
    base, other = values
    share = np.clip(job.options["t"] / np.maximum(np.abs(other - base), 1e-6), 0, 1)
    return base + share * (other - base)


def ram(job: TensorJob, values: list[np.ndarray], keep: Any) -> np.ndarray:
    base, *models = values
    changes = [np.where(np.abs(v - base) > job.options["epsilon"], v - base, 0) for v in models]
    by = sum((change != 0).astype(int) for change in changes)
    merged = np.zeros_like(base)
    for change in changes:
        scale = 1.0
        if job.method == "ramplus_tl":
            shared, alone = ((change != 0) & (by > 1)).sum(), ((change != 0) & (by == 1)).sum()
            scale += job.options["r"] * min(
                shared / max(alone, job.options["epsilon"]), job.options["alpha"]
            )
        merged += np.where(by == 1, scale * change, change / np.maximum(by, 1))
    return base + merged


def sce(job: TensorJob, values: list[np.ndarray], keep: Any) -> np.ndarray:
    base, *models = values
    taus = np.stack([v - base for v in models])
    share = job.options["select_topk"]
    if share < 1:
        spread = ((taus - taus.mean(axis=0)) ** 2).mean(axis=0).astype(np.float32)
        kept = int(np.count_nonzero(spread) * max(share, 0))
        taus = (
            taus * (spread >= np.sort(spread.reshape(-1))[spread.size - kept]) if kept else taus * 0
        )
    squares = (taus**2).reshape(len(taus), -1).mean(axis=1)
    weights = (
        squares / squares.sum() if squares.sum() >= 1e-6 else np.full(len(taus), 1 / len(taus))
    )
    agrees = np.sign(taus) == np.where(taus.sum(axis=0) >= 0, 1, -1)
    weights = weights.reshape(-1, *[1] * base.ndim) * agrees
    return base + (taus * weights).sum(axis=0) / np.maximum(weights.sum(axis=0), 1e-6)


def arcee_fusion(job: TensorJob, values: list[np.ndarray], keep: Any) -> np.ndarray:
    base, other = values
    p, q = (np.exp(v) / np.exp(v).sum(axis=-1, keepdims=True) + 1e-8 for v in (other, base))
    importance = (np.abs(other - base) * (p * np.log(p / q)).sum(axis=-1, keepdims=True)).astype(
        np.float32
    )
    order = np.sort(importance.reshape(-1))
    first, median, third = (
        float(order[int(share * (order.size - 1))]) for share in (0.25, 0.5, 0.75)
    )
    return np.where(importance >= median + 1.5 * (third - first), other, base)


METHODS: dict[str, Any] = {
    "karcher": karcher,
    "nearswap": nearswap,
    "ram": ram,
    "ramplus_tl": ram,
    "sce": sce,
    "arcee_fusion": arcee_fusion,
    "linear": linear,
    "passthrough": passthrough,
    "task_arithmetic": task_arithmetic,
    "slerp": slerp,
    "nuslerp": nuslerp,
    "multislerp": multislerp,
    "model_stock": model_stock,
    **dict.fromkeys(
        (
            "ties",
            "dare_linear",
            "dare_ties",
            "della",
            "della_linear",
            "breadcrumbs",
            "breadcrumbs_ties",
        ),
        sparse,
    ),
}
