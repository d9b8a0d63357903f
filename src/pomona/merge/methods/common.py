"""What all kernels share: the compiled loops, blocks as addresses, memory for the loops, what a
loop's status means; and for methods in NumPy, blocks in pieces of float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.merge.plan import TensorInput, TensorJob, inputs_of
from pomona.models.tensors import NUMBERS
from pomona.native import Family

LOOPS = Family(
    "merging",
    "pomona.merge.methods",
    ("tile_loops", "linear_loops", "sparse_loops"),
    {
        "linear": ("linear_loops", 11 * "i8 "),
        "combine": ("linear_loops", 10 * "i8 "),
        "gram": ("linear_loops", 10 * "i8 "),
        "tally": ("sparse_loops", 11 * "i8 "),
        "sums": ("sparse_loops", 9 * "i8 "),
        "blend": ("sparse_loops", 14 * "i8 "),
        "ranks": ("sparse_loops", 10 * "i8 "),
    },
)
loop = LOOPS.loop


KINDS = {"BF16": 0, "F16": 1, "F32": 2, "F64": 3}
TILE = 1024  # elements that the loops take at a time
SPACE = 4 * TILE + 192  # bytes that a tile takes in memory
PART = 4 * TILE  # elements whose sums are settled together


class Loops:
    """A job as the loops see it. The base comes first, and `count` is the number of the other
    inputs.
    """

    def __init__(self, job: TensorJob) -> None:
        self.job = job
        self.inputs = inputs_of(job)
        self.based, self.count = int(job.base is not None), len(job.inputs)
        for item in self.inputs:
            kind_of(item.dtype, item.tensor)
        self.kinds = np.array([KINDS[item.dtype] for item in self.inputs], np.int64)
        self.stored = kind_of(job.dtype, job.name)
        self.elements = math.prod(job.shape)

    def call(
        self, name: str, blocks: Sequence[NDArray[Any]], *arguments: int | NDArray[Any]
    ) -> None:
        """Run a loop on blocks of all inputs, arrays passed by address, memory for tiles last.
        Raises PomonaError by its status.
        """
        sources = np.array([address(block) for block in blocks], np.int64)
        scratch = np.empty((len(blocks) + 6) * SPACE, np.uint8)
        given = [
            argument if isinstance(argument, int) else address(argument) for argument in arguments
        ]
        status = loop(name)(
            address(sources),
            address(self.kinds),
            self.count,
            blocks[0].size,
            *given,
            address(scratch),
        )
        if status:
            self.fail(status)

    def fail(self, status: int) -> None:
        """Raise PomonaError saying what a loop found; `where` is the place of a bad input among the
        blocks.
        """
        if status < 0:
            raise PomonaError(
                f"the result is too large for {self.job.dtype}",
                where=f'tensor "{self.job.name}"',
                remedy="use smaller weights, or a wider out_dtype",
            )
        item = self.inputs[(status - 1) // 2]
        what, remedy = "holds NaN or infinity", "leave this model out, or get an undamaged copy"
        if status % 2 == 0:
            what = f"holds numbers too large for {self.job.compute}"
            remedy = "use dtype: float32 or bfloat16"
        raise PomonaError(f'tensor "{item.tensor}" {what}', where=(status - 1) // 2, remedy=remedy)

    def decoded(self, block: NDArray[Any], place: int) -> NDArray[np.float64]:
        """A block of input `place` as float64. Raises PomonaError for NaN and infinity."""
        values = decode(block, self.inputs[place].dtype)
        if not np.isfinite(values).all():
            self.fail(2 * place + 1)
        return values

    def store(self, values: NDArray[np.float64], out: NDArray[Any]) -> None:
        """Write elements of the result. Raises PomonaError when one is too large for its type."""
        if not encode(values, self.job.dtype, out):
            self.fail(-1)


def address(values: NDArray[Any]) -> int:
    """Where an array's elements are. They must be side by side."""
    assert values.flags.c_contiguous
    return values.ctypes.data


def kind_of(dtype: str, tensor: str) -> int:
    """A float type as the loops know it. Raises PomonaError for others."""
    if dtype not in KINDS:
        raise PomonaError(
            f"is {dtype}, and only {', '.join(KINDS)} can be merged",
            where=f'tensor "{tensor}"',
            remedy="copy it from one model",
        )
    return KINDS[dtype]


def decode(values: NDArray[Any], dtype: str) -> NDArray[np.float64]:
    """Stored numbers as float64."""
    return (
        (values.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else values
    ).astype(np.float64)


def encode(values: NDArray[np.float64], dtype: str, out: NDArray[Any]) -> bool:
    """Store numbers, rounded to nearest, ties to even. False when one is too large for the type."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32 if dtype == "BF16" else NUMBERS[dtype])
    if dtype == "BF16":
        bits = rounded.view(np.uint32)
        out[:] = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return bool(((out & 0x7FFF) < 0x7F80).all())
    out[:] = rounded
    return bool(np.isfinite(rounded).all())


def number(item: TensorInput, name: str, default: float | None = None) -> float:
    """A parameter of an input. Raises PomonaError when it has none and there is no default."""
    value = item.parameters.get(name, default)
    if value is None:
        raise PomonaError(
            f'"{name}" has no value',
            where=f'tensor "{item.tensor}" of model {item.identity or item.model}',
            remedy="give it one",
        )
    return float(value)


def no_weight(job: TensorJob, switch: str) -> PomonaError:
    """The error for weights that cancel out where `switch` divides by their sum."""
    return PomonaError(
        "the weights sum to zero",
        where=f'tensor "{job.name}"',
        remedy=f"use other weights, or {switch}: false",
    )


def weights_of(job: TensorJob) -> NDArray[np.float64]:
    """The weights of a job's inputs beside the base."""
    return np.array([number(item, "weight") for item in job.inputs])


class Single:
    """A kernel without passes: every element stands alone."""

    passes = 0
    unit = 1
    shared: str | None = None

    def read(self, number: int, start: int, blocks: Sequence[NDArray[Any]]) -> Any:
        """Never called: there is no pass."""
        raise AssertionError

    def settle(self, number: int, partials: Sequence[Any]) -> None:
        """Never called: there is no pass."""
        raise AssertionError


STEP = 1 << 14  # elements held in float64 at a time, unless a row has more
Numbers = NDArray[np.float64]


class Pieces:
    """A job's blocks in pieces of whole units: the base's numbers (n), and the other models'
    (count, n).
    """

    unit = PART
    shared: str | None = None

    def __init__(self, job: TensorJob) -> None:
        self.job, self._loops = job, Loops(job)
        self.store = self._loops.store

    def pieces(self, blocks: Sequence[NDArray[Any]]) -> Iterator[tuple[slice, Numbers, Numbers]]:
        """The place in the block, the base, and the other models. Raises PomonaError for NaN and
        infinity.
        """
        step = max(1, STEP // self.unit) * self.unit
        for start in range(0, blocks[0].size, step):
            part = slice(start, start + step)
            base, *models = (self._loops.decoded(b[part], place) for place, b in enumerate(blocks))
            yield part, base, np.stack(models)
