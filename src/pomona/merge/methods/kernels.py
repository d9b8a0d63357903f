"""Which kernel makes a job's tensor, and a driver for tensors in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from math import prod
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError, nearest
from pomona.merge.plan import JointKernel, Kernel, TensorJob, inputs_of
from pomona.models.tensors import NUMBERS, encode, to_float32

SPARSE = (
    *("ties", "dare_linear", "dare_ties", "della", "della_linear"),
    *("breadcrumbs", "breadcrumbs_ties"),
)
KERNELS = {  # module and class
    "copy": ("linear", "Copy"),
    "linear": ("linear", "Linear"),
    "passthrough": ("linear", "Linear"),
    "task_arithmetic": ("linear", "TaskArithmetic"),
    "slerp": ("spherical", "Slerp"),
    "nuslerp": ("spherical", "NuSlerp"),
    "multislerp": ("spherical", "MultiSlerp"),
    "model_stock": ("spherical", "ModelStock"),
    "karcher": ("spherical", "Karcher"),
    "nearswap": ("elementwise", "NearSwap"),
    "ram": ("elementwise", "Ram"),
    "ramplus_tl": ("elementwise", "Ram"),
    "sce": ("selection", "Sce"),
    "arcee_fusion": ("selection", "ArceeFusion"),
    **dict.fromkeys(SPARSE, ("sparse", "Sparse")),
}


def kernel_for(job: TensorJob, seed: int) -> Kernel:
    """The kernel of a job. `seed` is that of the whole merge; only dare and della draw.

    Blocks are handed to it as the Kernel protocol says, each row-major and contiguous. Errors about
    an input have its place among the blocks as `where`, the base being 0. linear and passthrough
    round inputs and result to the job's `compute` type, as mergekit does; all others take the
    inputs as stored, compute in float32 or float64 and round once, to the stored type. F64 is kept
    to the last bit by these two alone. Raises PomonaError for a method, a type or parameters it
    cannot work with.
    """
    if job.method not in KERNELS:
        raise PomonaError(
            f'unknown method "{job.method}"',
            where=f'tensor "{job.name}"',
            remedy=nearest(job.method, KERNELS),
        )
    module, name = KERNELS[job.method]
    columns = job.options.get("nuslerp_row_wise", False)
    if job.compute == "F64" and name == "Linear":
        name = "Doubles"
    elif name == "NuSlerp" and columns and not job.options.get("nuslerp_flatten", True):
        name = "ColumnSlerp"
    kernel = getattr(import_module(f"pomona.merge.methods.{module}"), name)
    return kernel(job, seed) if job.method in SPARSE else kernel(job)


def run(
    job: TensorJob, arrays: Sequence[NDArray[Any]], seed: int = 0, *, block: int | None = None
) -> NDArray[Any]:
    """Merge tensors in memory.

    arrays: the inputs as they are stored, the base's first if the job has one, all of the job's
        shape; BF16 as uint16.
    block: elements to hand to the kernel at a time, rounded down to what it needs; everything at
        once without it. The result is the same.
    Returns the result in the job's dtype (BF16 as uint16) and shape. Raises PomonaError naming the
    model and what is wrong with it.
    """
    kernel = kernel_for(job, seed)
    flat = [np.ascontiguousarray(array).reshape(-1) for array in arrays]
    size = flat[0].size
    step = size if block is None else max(1, block // kernel.unit) * kernel.unit
    starts = range(0, size, max(1, step))
    out = np.empty(size, NUMBERS[job.dtype])
    parts = [(start, [values[start : start + step] for values in flat]) for start in starts]
    number = 0
    try:
        while number < kernel.passes:
            kernel.settle(number, [kernel.read(number, start, part) for start, part in parts])
            number += 1
        for start, part in parts:
            kernel.write(start, part, out[start : start + step])
    except PomonaError as error:
        if not isinstance(error.where, int):
            raise
        item = inputs_of(job)[error.where]
        raise PomonaError(
            error.message, where=item.identity or f"model {item.model}", remedy=error.remedy
        ) from None
    return out.reshape(job.shape)


def kernel_of(job: TensorJob, seed: int) -> Kernel:
    """The kernel of a job, which for `rows` works on the first rows only."""
    if "rows" not in job.options:
        return kernel_for(job, seed)
    options = {key: value for key, value in job.options.items() if not key.startswith("rows")}
    rows, source = int(job.options["rows"]), int(job.options["rows_from"]) + (job.base is not None)
    inner = replace(job, shape=(rows, *job.shape[1:]), options=options)
    return FirstRows(kernel_for(inner, seed), prod(inner.shape), source)  # pyright: ignore[reportReturnType]


class FirstRows:
    """A kernel for the first `limit` elements; the elements behind them are those of input
    `source`, in the result's type.

    Blocks are the base's first, where the job has one; `source` counts among the blocks. Elements
    are counted flat: rows × columns.
    """

    def __init__(self, kernel: Kernel, limit: int, source: int) -> None:
        self.kernel, self.limit, self.source = kernel, limit, source
        self.passes, self.unit, self.shared = kernel.passes, kernel.unit, kernel.shared

    def _inside(self, start: int, blocks: Sequence[NDArray[Any]]) -> int:
        return min(max(self.limit - start, 0), len(blocks[0]))

    def read(self, number: int, start: int, blocks: Sequence[NDArray[Any]]) -> Any:
        """Partial result of the elements before the limit; None where there are none."""
        inside = self._inside(start, blocks)
        if inside:
            return self.kernel.read(number, start, [block[:inside] for block in blocks])
        return None

    def gather(self, number: int, partials: Sequence[Any]) -> Any:
        """As the inner kernel's."""
        return cast("JointKernel", self.kernel).gather(number, partials)

    def settle(self, number: int, partials: Sequence[Any]) -> None:
        """End a pass with the partial results there are."""
        self.kernel.settle(number, [partial for partial in partials if partial is not None])

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Merge up to the limit, copy behind it."""
        inside = self._inside(start, blocks)
        if inside:
            self.kernel.write(start, [block[:inside] for block in blocks], out[:inside])
        out[inside:] = _converted(blocks[self.source][inside:], out.dtype)


def _converted(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values in the stored type of the result, rounded to nearest even where it is narrower; uint16
    is BF16.
    """
    if values.dtype == dtype:
        return values
    wide = to_float32(values, "BF16" if values.dtype == np.uint16 else "")
    return (
        np.frombuffer(encode(wide, "BF16"), np.uint16) if dtype == np.uint16 else wide.astype(dtype)
    )
