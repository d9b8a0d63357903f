"""What a merge does and takes, known before it begins: tensors by method, bytes, memory, disk, and
the notes of its plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from pomona._version import __version__
from pomona.merge.checkpoints.files import WIDTHS
from pomona.merge.engine.output import ShardLayout
from pomona.merge.engine.streams import KEPT, block_of
from pomona.merge.methods.kernels import kernel_of
from pomona.merge.plan import MergePlan, TensorJob, inputs_of
from pomona.workspace import room_on_disk

PROGRAM = 110_000_000  # bytes of the program itself


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

    @property
    def tensors(self) -> int:
        """Number of tensors of the result."""
        return sum(self.methods.values())

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "out": str(self.out), "tensors": self.tensors}


def forecast(
    plan: MergePlan, out: Path, layout: ShardLayout, *, memory: int, threads: int
) -> MergeResult:
    """What `plan` would do. Raises PomonaError when a tensor does not fit into the memory."""
    free, _ = room_on_disk(out.parent)
    return MergeResult(
        out,
        False,
        signature_of(plan),
        methods_of(plan),
        sum(prod(job.shape) for job in plan.jobs),
        bytes_read(plan),
        layout.size,
        free,
        peak(plan, memory, threads),
        tuple(shard.name for shard in layout.shards),
        tuple(notes_of(plan, layout, free)),
    )


def notes_of(plan: MergePlan, layout: ShardLayout, free: int) -> Iterator[str]:
    """The plan's notes, and one when the disk is too small."""
    yield from plan.notes
    needed = layout.size + plan.prepared
    if free < needed:
        yield f"the disk has {free / 1e6:,.0f} MB free, and the merge takes {needed / 1e6:,.0f} MB"


def signature_of(plan: MergePlan) -> str:
    """One line that says how the result is made."""
    models = len(
        {
            item.identity or plan.models[item.model].name
            for job in plan.jobs
            for item in inputs_of(job)
        }
    )
    methods = ",".join(method for method in methods_of(plan) if method != "copy") or "copy"
    return f"merge|method:{methods}|models:{models}|seed:{plan.seed}|version:{__version__}"


def methods_of(plan: MergePlan) -> dict[str, int]:
    """Number of tensors by method, the most frequent first."""
    return dict(Counter(job.method for job in plan.jobs).most_common())


def bytes_read(plan: MergePlan) -> int:
    """Bytes of the tensors that are inputs, each counted once."""
    sizes = {
        (item.model, item.tensor): prod(job.shape) * WIDTHS[item.dtype]
        for job in plan.jobs
        for item in inputs_of(job)
    }
    return sum(sizes.values())


def peak(plan: MergePlan, memory: int, threads: int) -> int:
    """Bytes of memory: the program, and what the tensor that takes most keeps in every thread."""
    kinds: dict[tuple[Any, ...], int] = {}
    for job in plan.jobs:
        kind = (job.method, tuple(item.dtype for item in inputs_of(job)), job.dtype, job.shape)
        if kind not in kinds:
            kinds[kind] = _held(job, plan.seed, memory // threads)
    return PROGRAM + threads * max(kinds.values(), default=0)


def _held(job: TensorJob, seed: int, room: int) -> int:
    """Bytes of inputs that stay mapped, and a block of the result."""
    widths = [WIDTHS[item.dtype] for item in inputs_of(job)]
    width, count = sum(widths) + WIDTHS[job.dtype], prod(job.shape)
    block = min(count, block_of(job.name, count, kernel_of(job, seed).unit, widths, width, room))
    return max(block, min(count, min(KEPT, room) // width)) * width
