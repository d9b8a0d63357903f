"""One result: what it will take, known before it begins; while it is made its files, its journal
and what is measured; and what stands beside the tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any

from pomona._version import __version__
from pomona.errors import quantity
from pomona.merge.engine.streams import KEPT, MergePiece, block_of
from pomona.merge.methods.kernels import kernel_of
from pomona.merge.methods.linear import holds_odd
from pomona.merge.plan import MergePlan, MergeResult, TensorJob, inputs_of
from pomona.merge.report.card import FileHashes, card_files, sources_of
from pomona.merge.report.survey import MergeSurvey, page
from pomona.merge.report.values import values_of
from pomona.models import INDEX
from pomona.models.tensors import (
    FLOATS,
    WIDTHS,
    FileTarget,
    Journal,
    Output,
    ResultWorkspace,
    ShardLayout,
    TensorRows,
    View,
    content_of,
    full_disk,
    is_buffer,
    lay_out,
    row_blocks,
    size_of,
)
from pomona.places import check_outputs
from pomona.workspace import is_full, refuse_changed, room_on_disk

FORMAT = 1  # of a result that is being made: another number is not gone on from
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "sentencepiece.model",
    "spm.model",
    "spm_char.model",
    "tiktoken.model",
    "source.spm",
    "target.spm",
    "vocab-src.json",
    "vocab-tgt.json",
    "target_vocab.json",
    "bpe.codes",
    "dict.txt",
    "emoji.json",
    "entity_vocab.json",
    "byte_maps.json",
    "word_shape.json",
    "word_pronunciation.json",
    "prophetnet.tokenizer",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
)
PROGRAM = 110_000_000  # bytes of the program itself
_RANGE = re.compile(r" \[\d+, \d+\]$")  # of layers, where a model is there twice


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
        values=values_of(plan),
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
            _RANGE.sub("", item.identity) or plan.models[item.model].name
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


def check_result(plan: MergePlan, out: Path) -> None:
    """Raise PomonaError when the result would replace or hold something that it is made from."""
    check_outputs({"the result": out}, plan.sources, folders=["the result"])


class Result:
    """A result in its workspace. As a context it opens files and journal, and closes them; the
    workspace is its owner's.
    """

    def __init__(
        self,
        plan: MergePlan,
        workspace: ResultWorkspace,
        layout: ShardLayout,
        *,
        report: bool,
        threads: int,
    ) -> None:
        self.plan, self.workspace, self.layout = plan, workspace, layout
        self.survey = MergeSurvey(plan) if report else None
        self.sources = sources_of(plan, workspace.folder)
        check_result(plan, workspace.out)
        self._threads = threads
        self._journal: Journal | None = None
        self._output: Output | None = None
        self._hashes: FileHashes | None = None
        self._odd: set[str] = set()  # copied tensors with NaN or infinity

    def __enter__(self) -> Result:
        self._before = self._key()
        journal = self.workspace.open(self._before)
        try:
            self._output = Output(self.workspace.result, self.layout, fresh=not journal.done)
            # The journal begins when the files have all their room, so that what it names is there.
            if not journal.done:
                self._output.sync()
            journal.begin()
        except OSError as error:
            if is_full(error):
                raise full_disk(self.workspace.out, self.layout.size) from error
            raise
        self._journal = journal
        self._hashes = FileHashes(
            [file for source in self.sources for file in source.files], self._threads
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._hashes is not None:
            self._hashes.stop()
        if self._output is not None:
            self._output.close()

    def _key(self) -> str:
        """What the bytes of the result depend on: plan, layout, inputs by path, size and time, and
        this program.
        """
        plan = self.plan
        beside = [plan.tokenizer / name for name in TOKENIZER_FILES] if plan.tokenizer else []
        files = [
            *(file for source in self.sources for file in source.files),
            *(file for file in beside if file.is_file()),
        ]
        about = {
            "version": [__version__, FORMAT],
            "jobs": [asdict(job) for job in plan.jobs],
            "models": list(map(str, plan.models)),
            "rest": [
                plan.seed,
                plan.config,
                plan.recipe,
                plan.notes,
                str(plan.tokenizer),
                self.survey is not None,
            ],
            "extra": {
                name: hashlib.sha256(content).hexdigest() for name, content in plan.extra.items()
            },
            "files": [
                [str(file), file.stat().st_size, file.stat().st_mtime_ns, file.stat().st_ino]
                for file in files
            ],
            "shards": [[shard.name, shard.size] for shard in self.layout.shards],
        }
        return hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()

    def target(self, number: int) -> FileTarget | None:
        """Where a job's tensor goes; None when it is there."""
        assert self._journal is not None and self._output is not None
        if number in self._journal.done:
            return None
        return self._output.target(number, self.plan.jobs[number])

    def measure(self, piece: MergePiece, start: int, blocks: Any) -> Any:
        """What the report needs of a block."""
        return self.survey.measure(piece.job, start, blocks) if self.survey else None

    def finished(self, piece: MergePiece) -> None:
        """A tensor is written: enter it in the journal, from time to time with all that came
        before.
        """
        assert self._journal is not None and self._output is not None
        if piece.number in self._journal.done:
            return
        if getattr(piece.kernel, "odd", False) and not is_buffer(piece.job.name):
            self._odd.add(piece.job.name)
        measured = self.survey.total(piece.job, piece.measured) if self.survey else None
        piece.measured = []
        if self._journal.add(piece.number, measured):
            self._output.sync()
            self._journal.save()

    def finish(self, *, memory: int, threads: int) -> MergeResult:
        """Write what stands beside the tensors, bring all to the disk, and give the result its
        name.
        """
        assert self._journal is not None and self._output is not None and self._hashes is not None
        layers = self.survey.layers(self._journal.done) if self.survey else None
        plan = replace(self.plan, notes=(*self.plan.notes, *self._odd_notes()))
        told = forecast(plan, self.workspace.out, self.layout, memory=memory, threads=threads)
        name, hashes = self.workspace.out.name, self._hashes.result()
        files = files_beside(plan, self.layout) | card_files(
            plan, name, self.sources, hashes, told, layers
        )
        if layers:
            files["report.html"] = page(name, told.signature, layers).encode()
        for name, content in files.items():
            file = self.workspace.result / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        self._output.sync()
        self._output.close()
        refuse_changed(self._before, self._key(), self.workspace.out)
        finished_before = self._journal.finished_before
        self.workspace.finish()
        names = (*told.files, *files)
        rows = layers.rows if layers else ()
        return replace(told, written=True, files=names, found=finished_before, layers=rows)

    def _odd_notes(self) -> Iterator[str]:
        assert self._journal is not None
        if self._journal.finished_before:  # what an earlier call copied
            opened: dict[int, View] = {}
            for job in self.plan.jobs:
                if job.method == "copy" and job.dtype in FLOATS and not is_buffer(job.name):
                    (item,) = job.inputs
                    if item.model not in opened:
                        opened[item.model] = View.of(self.plan.models[item.model])
                    rows = TensorRows(opened[item.model].tensors[item.tensor])
                    if any(holds_odd(rows.stored(part)) for part in row_blocks(*rows.shape)):
                        self._odd.add(job.name)
        if self._odd:
            odd = quantity(
                len(self._odd), "tensor is copied and holds", "tensors are copied and hold"
            )
            yield f"{odd} NaN or infinity, the first is {min(self._odd)}: is its model damaged?"


def files_beside(plan: MergePlan, layout: ShardLayout) -> dict[str, bytes]:
    """What stands beside the tensors of a result, without what tells of the merge."""
    files: dict[str, bytes] = {"config.json": _json(plan.config)}
    if layout.index:
        files[INDEX] = layout.index
    if plan.tokenizer:
        files |= {
            name: content_of(plan.tokenizer / name)
            for name in TOKENIZER_FILES
            if os.path.lexists(plan.tokenizer / name)
        }
    return files | dict(plan.extra)


def write_outline(plan: MergePlan, folder: Path) -> None:
    """A checkpoint as the plan's result will be, to plan further merges with: all that is read
    before a merge is there, and where its numbers would be the file has a hole, which takes no
    room.
    """
    folder.mkdir(parents=True)
    layout = lay_out(plan.jobs, sum(map(size_of, plan.jobs)))
    (shard,) = layout.shards
    with (folder / shard.name).open("wb") as stream:
        stream.write(shard.header)
        stream.truncate(shard.size)
    for name, content in files_beside(plan, layout).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _json(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode()
