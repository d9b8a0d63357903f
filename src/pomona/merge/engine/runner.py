"""The inner engine: every block of every tensor is read, every kernel over it is run, in any number
of threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from typing import Any, TypeVar, cast

from numpy.typing import NDArray

from pomona.errors import PomonaError
from pomona.merge.engine.streams import KEPT, MappedFiles, MergePiece, ReadUnit
from pomona.merge.plan import JointKernel


@contextmanager
def _named(unit: ReadUnit, piece: MergePiece) -> Iterator[None]:
    """A kernel names one of its inputs by its place among the blocks; here that becomes the input's
    file.
    """
    try:
        yield
    except PomonaError as error:
        if isinstance(error.where, int):
            file = unit.places[piece.sources[error.where]].file
            raise type(error)(error.message, where=file, remedy=error.remedy) from None
        raise


def _gathered(piece: MergePiece, number: int, partials: Sequence[Any]) -> list[Any]:
    return [cast("JointKernel", piece.kernel).gather(number, partials)] if partials else []


_MANY = 64  # partial results of blocks that are kept side by side where a kernel can join them
Found = TypeVar("Found")
Measure = Callable[[MergePiece, int, Sequence[NDArray[Any]]], Any]


class Runner:
    """Runs units in `threads` threads, whose blocks together take at most `memory` bytes. Bytes do
    not depend on either.

    measure: called with a piece, its block's start and its blocks, while they are in the cache;
        what it gives is kept in `piece.measured`.
    advance: called with the bytes read for the last time.
    """

    def __init__(
        self,
        files: MappedFiles,
        *,
        threads: int,
        memory: int,
        measure: Measure | None = None,
        advance: Callable[[int], None] | None = None,
    ) -> None:
        self.files, self.threads, self.room = files, threads, memory // threads
        self._measure, self._advance = measure, advance
        self._stop = threading.Event()

    def run(self, units: Sequence[ReadUnit]) -> Iterator[ReadUnit]:
        """Units as they are finished, the largest first. Raises what a kernel raises, naming the
        model's folder.
        """
        for unit in units:
            unit.block(self.room)
        self._together(units)
        left = [unit for unit in units if any(not piece.done for piece in unit.pieces)]
        left.sort(
            key=lambda unit: (
                -unit.count * unit.width,
                str(unit.places[0].file),
                unit.places[0].offset,
            )
        )
        yield from self._spread(self._whole, left)

    def in_order(self, units: Sequence[ReadUnit]) -> Iterator[ReadUnit]:
        """As `run`, in the order given, at most `threads` ahead of whoever asks."""
        self._together(units)
        if self.threads == 1:
            yield from map(self._whole, units)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            rest = iter(units)
            waiting = [pool.submit(self._whole, unit) for unit in islice(rest, self.threads)]
            while waiting:
                yield waiting.pop(0).result()
                waiting += [pool.submit(self._whole, unit) for unit in islice(rest, 1)]

    def _spread(
        self, work: Callable[[ReadUnit], Found], units: Sequence[ReadUnit]
    ) -> Iterator[Found]:
        if self.threads == 1 or len(units) < 2:
            yield from map(work, units)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            waiting: set[Future[Found]] = {pool.submit(work, unit) for unit in units}
            try:
                while waiting:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            finally:
                # Also when whoever asks for units went away: nobody would write what is computed.
                self._stop.set()
                for future in waiting:
                    future.cancel()

    def _together(self, units: Sequence[ReadUnit]) -> None:
        """The passes of kernels that are settled with those of other tensors, one pass over all
        tensors after the other.
        """
        units = [unit for unit in units if any(p.kernel.shared is not None for p in unit.pieces)]
        groups: dict[tuple[int, str], list[MergePiece]] = {}
        for unit in units:
            for piece in unit.pieces:
                if piece.kernel.shared is not None:
                    groups.setdefault((piece.plan, piece.kernel.shared), []).append(piece)
        passes = max(
            (piece.kernel.passes for pieces in groups.values() for piece in pieces), default=0
        )
        for number in range(passes):
            joint: dict[tuple[int, str | None], list[Any]] = {}

            def read(unit: ReadUnit, number: int = number) -> list[tuple[MergePiece, list[Any]]]:
                return list(
                    self._pass(
                        unit,
                        number,
                        [piece for piece in unit.pieces if piece.kernel.shared is not None],
                    )
                )

            for partials_of in self._spread(read, units):
                for piece, partials in partials_of:
                    key = piece.plan, piece.kernel.shared
                    joint[key] = _gathered(piece, number, [*joint.get(key, []), *partials])
            # Spreading stops its threads at its end; the next pass needs them.
            self._stop.clear()
            for key, pieces in groups.items():
                for piece in pieces:
                    if number < piece.kernel.passes:
                        piece.kernel.settle(number, joint.get(key, []))

    def _pass(
        self, unit: ReadUnit, number: int, pieces: Sequence[MergePiece]
    ) -> Iterator[tuple[MergePiece, list[Any]]]:
        """The partial results of one reading, by piece."""
        pieces = [piece for piece in pieces if number < piece.kernel.passes]
        results: list[list[Any]] = [[] for _ in pieces]
        needed = sorted({source for piece in pieces for source in piece.sources})
        for start, blocks in self._blocks(unit, needed, first=number == 0, last=False):
            for piece, partials in zip(pieces, results, strict=True):
                with _named(unit, piece):
                    partial = piece.kernel.read(
                        number, start, [blocks[source] for source in piece.sources]
                    )
                if partial is not None:
                    partials.append(partial)
                if piece.kernel.shared is not None and len(partials) == _MANY:
                    partials[:] = _gathered(piece, number, partials)
        return zip(pieces, results, strict=True)

    def _whole(self, unit: ReadUnit) -> ReadUnit:
        """Everything that is left to do for a unit."""
        pieces = [piece for piece in unit.pieces if not piece.done]
        alone = [piece for piece in pieces if piece.kernel.shared is None]
        passes = max((piece.kernel.passes for piece in alone), default=0)
        for number in range(passes):
            for piece, partials in self._pass(unit, number, alone):
                with _named(unit, piece):
                    piece.kernel.settle(number, partials)
        sources = sorted({source for piece in pieces for source in piece.sources})
        for start, blocks in self._blocks(unit, sources, first=not passes, last=True):
            for piece in pieces:
                mine = [blocks[source] for source in piece.sources]
                self._write(unit, piece, start, mine)
            if self._advance is not None:
                self._advance(sum(block.nbytes for block in blocks.values()))
        for piece in pieces:
            piece.done = True
        return unit

    def _write(
        self, unit: ReadUnit, piece: MergePiece, start: int, blocks: Sequence[NDArray[Any]]
    ) -> None:
        out = piece.target.begin(start, len(blocks[0]))
        with _named(unit, piece):
            piece.kernel.write(start, blocks, out)
        piece.target.end(start, out)
        if self._measure is not None:
            measured = self._measure(piece, start, blocks)
            if measured is not None:
                piece.measured.append(measured)

    def _blocks(
        self, unit: ReadUnit, sources: Sequence[int], *, first: bool, last: bool
    ) -> Iterator[tuple[int, dict[int, NDArray[Any]]]]:
        """A unit's blocks, start and memory by source. They are let go at the `last` reading, those
        of large units always.
        """
        size, kept = unit.block(self.room), unit.kept(self.room)
        places = {source: unit.places[source] for source in sources}
        many, held = unit.count if kept else min(KEPT, self.room) // unit.width, 0
        for place in places.values():
            if place.elements > size and (first or not kept):
                self.files.expect(place)
        for start in range(0, unit.count, size):
            if self._stop.is_set():
                raise PomonaError(
                    "stopped",
                    where=f'tensor "{unit.pieces[0].job.name}"',
                    remedy="see the first error",
                )
            count = min(size, unit.count - start)
            yield (
                start,
                {
                    source: self.files.read(source, place, start, count)
                    for source, place in places.items()
                },
            )
            held += count
            if (last or not kept) and (held + size > many or start + count == unit.count):
                for place in places.values():
                    self.files.release(place, start + count - held, held)
                held = 0
