"""What a merge will do: one job per tensor of the result, decided before anything is written; and
what is told of it when it is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

Value = float | int | bool | str


MERGED = "a merged model"  # the kind of the folders, see `pomona.files.check_ours`


@dataclass(frozen=True)
class TensorInput:
    """A tensor of one model, with the values that the recipe's parameters take for it (weight,
    density, …).
    """

    model: int  # place in MergePlan.models
    tensor: str
    dtype: str  # as safetensors names it: BF16, F16, F32, F64, I64, …
    parameters: Mapping[str, float] = field(default_factory=dict)
    identity: str = (
        ""  # the model's name in the recipe, which does not depend on the order of models
    )


@dataclass(frozen=True)
class TensorJob:
    """One tensor of the result: its shape and type, the method, what goes in, and the method's
    options (t, lambda, normalize, …).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    method: str  # "copy" takes the first input's bytes as they are
    inputs: tuple[TensorInput, ...]
    base: TensorInput | None = None
    compute: str = "F32"  # the recipe's `dtype`, where a method's arithmetic depends on it
    options: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True)
class MergePlan:
    """A whole merge: the checkpoint folders read, the jobs in the order of the result, and what is
    written beside the tensors.
    """

    models: tuple[Path, ...]
    sources: tuple[Path, ...]  # what the recipe names: model and adapter folders, and its own file
    jobs: tuple[TensorJob, ...]
    seed: int
    config: Mapping[str, Any]  # config.json of the result
    tokenizer: Path | None  # folder whose tokenizer files go with the result
    recipe: Mapping[str, Any]  # the recipe as it was read, for the model card
    extra: Mapping[str, bytes] = field(default_factory=dict)  # further files of the result, by name
    prepared: int = 0  # bytes beside the result while it is made: adapted or re-ordered tensors
    # what the reader of a dry run should know: tensors copied, keys not covered
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class MergeResult:
    """A merge that was made, or in a dry run would be.

    methods: tensors of the result by method. parameters: of the result. read: bytes of tensors that
        are inputs, each counted once.
    disk: bytes the result takes; free: bytes free where it goes. memory: the peak, in bytes, of
        blocks and program.
    found: tensors that an earlier, killed call had finished. layers: what was measured, a row for
        each layer (see `report`).
    """

    out: Path
    written: bool
    signature: str
    methods: Mapping[str, int]
    parameters: int
    read: int
    disk: int
    free: int
    memory: int
    files: tuple[str, ...]
    notes: tuple[str, ...]
    found: int = 0
    layers: tuple[Mapping[str, Any], ...] = ()
    values: tuple[Mapping[str, Any], ...] = ()

    @property
    def tensors(self) -> int:
        """Number of tensors of the result."""
        return sum(self.methods.values())

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "out": str(self.out), "tensors": self.tensors}


class Kernel(Protocol):
    """How one job's tensor is made, block by block. Blocks are flat views of the stored data, the
    base's first; BF16 comes as uint16.

    Every pass sees all blocks; partial results of a pass are settled in block order, so that
    threads never change the result. `shared` names jobs whose partial results are settled together
    (a threshold over the whole model); None for jobs on their own. A kernel that can have a name
    there is a `JointKernel`.
    """

    passes: int  # readings of the whole tensor before it can be written
    # blocks hold a multiple of this many elements, e.g. a row; 1 where every element stands alone
    unit: int
    shared: str | None

    def read(self, number: int, start: int, blocks: Sequence[NDArray[Any]]) -> Any:
        """Partial result of pass `number` for the elements from `start`. Called from several
        threads at once.
        """
        ...

    def settle(self, number: int, partials: Sequence[Any]) -> None:
        """End pass `number`."""
        ...

    def write(self, start: int, blocks: Sequence[NDArray[Any]], out: NDArray[Any]) -> None:
        """Write the result's elements from `start` into `out`, in the job's dtype (BF16 as uint16).
        Called from several threads at once.
        """
        ...


class JointKernel(Kernel, Protocol):
    """A kernel that can be settled with those of other tensors. There may be many: partial results
    are joined as they come.
    """

    def gather(self, number: int, partials: Sequence[Any]) -> Any:
        """One partial result of pass `number` for several: of a tensor's blocks from the first on,
        or of tensors in any order.
        """
        ...


def inputs_of(job: TensorJob) -> tuple[TensorInput, ...]:
    """The inputs of a job as its kernel sees them: the base first."""
    return (job.base, *job.inputs) if job.base else job.inputs
