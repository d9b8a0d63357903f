"""Which kernel makes a job's tensor, and a driver for tensors in memory."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError, nearest
from pomona.merge._plan import Job, Kernel

KERNELS = {  # module and class
    "linear": ("linear", "Linear"),
    "passthrough": ("linear", "Linear"),
    "task_arithmetic": ("linear", "TaskArithmetic"),
    "slerp": ("spheres", "Slerp"),
    "nuslerp": ("spheres", "NuSlerp"),
    "multislerp": ("spheres", "MultiSlerp"),
    "model_stock": ("spheres", "ModelStock"),
    "karcher": ("karcher", "Karcher"),
    "nearswap": ("near", "NearSwap"),
    "ram": ("near", "Ram"),
    "ramplus_tl": ("near", "Ram"),
    "sce": ("chosen", "Sce"),
    "arcee_fusion": ("chosen", "ArceeFusion"),
}
SPARSE = (
    "ties",
    "dare_linear",
    "dare_ties",
    "della",
    "della_linear",
    "breadcrumbs",
    "breadcrumbs_ties",
)


def kernel_for(job: Job, seed: int) -> Kernel:
    """The kernel of a job. `seed` is that of the whole merge; only dare and della draw.

    Blocks are handed to it as the Kernel protocol says, each row-major and contiguous. Errors about
    an input have its place among the blocks as `where`, the base being 0. linear and passthrough
    round inputs and result to the job's `compute` type, as mergekit does; all others take the
    inputs as stored, compute in float32 or float64 and round once, to the stored type. F64 is kept
    to the last bit by these two alone. Raises PomonaError for a method, a type or parameters it
    cannot work with.
    """
    if job.method == "copy":
        from pomona.merge.methods.linear import Copy

        return Copy()
    if job.method in SPARSE:
        from pomona.merge.methods.sparse import Sparse

        return Sparse(job, seed)
    if job.method not in KERNELS:
        remedy = nearest(job.method, ["copy", *KERNELS, *SPARSE])
        raise PomonaError(
            f'unknown method "{job.method}"', where=f'tensor "{job.name}"', remedy=remedy
        )
    module, name = _home(job)
    return getattr(import_module(f"pomona.merge.methods.{module}"), name)(job)


def _home(job: Job) -> tuple[str, str]:
    """The module and the class of a job's kernel."""
    if job.compute == "F64" and job.method in ("linear", "passthrough"):
        return "linear", "Doubles"
    if (
        job.method == "nuslerp"
        and not job.options.get("nuslerp_flatten", True)
        and job.options.get("nuslerp_row_wise", False)
    ):
        return "columns", "ColumnSlerp"
    return KERNELS[job.method]


def run(
    job: Job, arrays: Sequence[NDArray[Any]], seed: int = 0, *, block: int | None = None
) -> NDArray[Any]:
    """Merge tensors in memory.

    arrays: the inputs as they are stored, the base's first if the job has one, all of the job's
        shape; BF16 as uint16.
    block: elements to hand to the kernel at a time, rounded down to what it needs; everything at
        once without it. The result is the same.
    Returns the result in the job's dtype (BF16 as uint16) and shape. Raises PomonaError naming the
    model and what is wrong with it.
    """
    from pomona.merge.methods.common import NUMBERS

    kernel = kernel_for(job, seed)
    flat = [np.ascontiguousarray(array).reshape(-1) for array in arrays]
    size = flat[0].size
    step = size if block is None else max(1, block // kernel.unit) * kernel.unit
    starts = range(0, size, max(1, step))
    out = np.empty(size, NUMBERS.get(job.dtype, flat[0].dtype))
    number = 0
    try:
        while number < kernel.passes:
            kernel.settle(
                number,
                [
                    kernel.read(number, start, [values[start : start + step] for values in flat])
                    for start in starts
                ],
            )
            number += 1
        for start in starts:
            kernel.write(
                start, [values[start : start + step] for values in flat], out[start : start + step]
            )
    except PomonaError as error:
        if not isinstance(error.where, int):
            raise
        inputs = (job.base, *job.inputs) if job.base else job.inputs
        item = inputs[error.where]
        raise PomonaError(
            error.message, where=item.identity or f"model {item.model}", remedy=error.remedy
        ) from None
    return out.reshape(job.shape)
