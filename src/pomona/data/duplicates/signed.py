"""What documents look like once they are signed: the parameters of a deduplication, the chunks on
disk, and the saved index against which new documents are held without reading the old ones again.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pomona.data.duplicates._loops import loop
from pomona.data.work import noted
from pomona.documents import read_json
from pomona.errors import PomonaError, first_line, nearest
from pomona.files import atomic_directory, atomic_file, read_array, sweep, write_json
from pomona.places import check_name
from pomona.shingles import HASHES, SHINGLES, bands_for
from pomona.workspace import Lock, disk_guard

Method = Literal["exact", "minhash", "substring", "semantic"]
NORMAL_FORM = "nfc+lower+single-spaces"


@dataclass(frozen=True)
class DedupOptions:
    """Parameters of a deduplication, checked. Bands, rows, shingles and `edit_similarity` are None
    for the exact method. `inside`: shingles leave punctuation out.
    """

    method: str
    column: str
    threshold: float | None
    n_bands: int | None
    rows_per_band: int | None
    shingle: str | None
    shingle_size: int | None
    edit_similarity: float | None
    keep: str
    target_size: int | None
    seed: int
    inside: bool | None = None

    @property
    def score(self) -> str | None:
        """The column that `keep="best:COLUMN"` names."""
        return self.keep.partition(":")[2] or None

    def signing(self) -> dict[str, Any]:
        """The parameters that band keys and shingle sets depend on."""
        names = (
            "method",
            "column",
            "n_bands",
            "rows_per_band",
            "shingle",
            "shingle_size",
            "edit_similarity",
            "seed",
        )
        return {name: value for name, value in asdict(self).items() if name in names}


def options_of(
    method: str,
    column: str,
    threshold: float,
    n_bands: int | None,
    rows_per_band: int | None,
    shingle: str,
    shingle_size: int | None,
    edit_similarity: float | None,
    keep: str,
    target_size: int | None,
    seed: int,
) -> DedupOptions:
    """Check the parameters. Raises PomonaError naming the one that is wrong."""
    _share("threshold", threshold)
    if edit_similarity is not None:
        _share("edit_similarity", edit_similarity)
    if shingle not in SHINGLES:
        raise PomonaError(
            f'there is no "{shingle}"', where="shingle", remedy=nearest(shingle, SHINGLES)
        )
    if keep not in ("first", "longest", "none") and not (
        keep.startswith("best:") and keep != "best:"
    ):
        raise PomonaError(
            f'"{keep}" says nothing about which document to keep',
            where="keep",
            remedy="first, longest, best:COLUMN or none",
        )
    for name, value in (
        ("n_bands", n_bands),
        ("rows_per_band", rows_per_band),
        ("shingle_size", shingle_size),
        ("target_size", target_size),
    ):
        if value is not None and value < 1:
            raise PomonaError(f"{value} is less than 1", where=name, remedy="give 1 or more")
    if method == "exact":
        return DedupOptions(
            method, column, None, None, None, None, None, None, keep, target_size, seed
        )
    bands, rows = bands_for(threshold)
    if n_bands or rows_per_band:
        rows = rows_per_band or max(1, HASHES // (n_bands or 1))
        bands = n_bands or max(1, HASHES // rows)
    return DedupOptions(
        method,
        column,
        threshold,
        bands,
        rows,
        shingle,
        shingle_size,
        edit_similarity,
        keep,
        target_size,
        seed,
    )


def _share(name: str, value: float) -> None:
    if not 0 < value <= 1:
        raise PomonaError(
            f"{value} is not above 0 and at most 1", where=name, remedy="0.8 is usual"
        )


Ints = NDArray[np.int64]


def chunks_in(folder: Path) -> list[Path]:
    """The chunk folders of every finished part in `folder`, in row order. Raises PomonaError when
    a part's note is damaged, or promises chunks that are not there.
    """
    chunks: list[Path] = []
    for note in sorted(folder.glob("[0-9]*.json")):
        said = noted(note, rows=int, chunks=int)
        there = len(list(folder.glob(f"{note.stem}-*")))
        if said is None or said["chunks"] > there:
            remedy = "delete the folder, or take it from a backup"
            raise PomonaError("is damaged", where=note, remedy=remedy)
        chunks += [folder / f"{note.stem}-{chunk:06d}" for chunk in range(said["chunks"])]
    return chunks


def save(values: NDArray[Any], path: Path) -> None:
    """Write an array as `.npy`. NumPy's own `save` does not tell a full disk from other
    failures.
    """
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(
            stream, np.lib.format.header_data_from_array_1_0(values)
        )
        stream.write(values.reshape(-1).view(np.uint8).data)


def save_chunk(arrays: Mapping[str, NDArray[Any]], place: Path) -> None:
    """Write a chunk folder, whole or not at all. It is not forced to the disk, but carries sums by
    which `is_whole` knows it.
    """
    partial = place.with_name(f".{place.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir()
    try:
        for name, values in arrays.items():
            save(np.ascontiguousarray(values), partial / f"{name}.npy")
        (partial / "sums.json").write_text(
            json.dumps({name: _sum(values) for name, values in arrays.items()})
        )
        shutil.rmtree(place, ignore_errors=True)
        partial.rename(place)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_whole(place: Path) -> bool:
    """Whether a chunk folder is there as it was written, also after the machine went down."""
    try:
        sums = json.loads((place / "sums.json").read_text())
        return all(
            _sum(read_array(place / f"{name}.npy")) == wanted for name, wanted in sums.items()
        )
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def _sum(values: NDArray[Any]) -> list[int]:
    return [
        values.size,
        int(np.add.reduce(np.ascontiguousarray(values).reshape(-1).view(np.uint64))),
    ]


@dataclass(frozen=True)
class Signed:
    """Documents in the order of `chunks`. Rows are numbered through from 0."""

    chunks: Sequence[Path]
    _maps: dict[tuple[int, str], NDArray[Any]] = field(default_factory=dict, repr=False)

    @cached_property
    def starts(self) -> Ints:
        """The first row of every chunk, and the number of rows."""
        sizes = [len(self._map(at, "prints")) for at in range(len(self.chunks))]
        return np.array([0, *itertools.accumulate(sizes)], np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def keys(self, band: int) -> NDArray[np.uint64]:
        """The keys of one band, `[n]`."""
        bands = [self._map(at, "keys")[band] for at in range(len(self.chunks))]
        return np.concatenate(bands) if bands else np.zeros(0, np.uint64)

    def column(self, name: str) -> NDArray[Any]:
        """`prints` `[n, 2]`, `facts` `[n, 2]` or `scores` `[n]`, whole."""
        parts = [read_array(chunk / f"{name}.npy") for chunk in self.chunks]
        empty = np.zeros((0, 2), np.uint64 if name == "prints" else np.int64)
        return np.concatenate(parts) if parts else empty

    def sizes(self, name: str, rows: Ints) -> Ints:
        """How many values of the ragged column `name` (`sets` or `tokens`) each of the ascending
        `rows` has.
        """
        sizes = np.zeros(len(rows), np.int64)
        for at, inside, here in self._by_chunk(rows):
            offsets = self._map(at, _OFFSETS[name])
            sizes[here] = offsets[inside + 1] - offsets[inside]
        return sizes

    def gather(self, name: str, rows: Ints) -> tuple[NDArray[np.uint64], Ints]:
        """The values of the ragged column `name` of the ascending `rows`, end to end, and their
        `[n + 1]` offsets.
        """
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.sizes(name, rows))])
        values, end = np.empty(int(offsets[-1]), np.uint64), 0
        for at, inside, _ in self._by_chunk(rows):
            end = loop("copy_ragged")(
                self._map(at, name), self._map(at, _OFFSETS[name]), inside, values, end
            )
        return values, offsets

    def _by_chunk(self, rows: Ints) -> list[tuple[int, Ints, slice]]:
        cuts = np.searchsorted(rows, self.starts)
        filled = np.flatnonzero(np.diff(cuts))
        return [
            (
                int(at),
                rows[cuts[at] : cuts[at + 1]] - self.starts[at],
                slice(int(cuts[at]), int(cuts[at + 1])),
            )
            for at in filled
        ]

    def _map(self, at: int, name: str) -> NDArray[Any]:
        if (at, name) not in self._maps:
            self._maps[at, name] = read_array(self.chunks[at] / f"{name}.npy", "c")
        return self._maps[at, name]


_OFFSETS = {"sets": "set_offsets", "tokens": "token_offsets"}


_FORM = 1


@dataclass(frozen=True)
class SignedIndex:
    """A folder with the signed documents of every batch, the components of all, and a manifest that
    says which are valid.
    """

    folder: Path
    parameters: dict[str, Any]
    batches: list[dict[str, Any]]

    @property
    def chunks(self) -> list[Path]:
        """The chunk folders of all batches, in order."""
        return [
            chunk
            for at in range(len(self.batches))
            for chunk in chunks_in(self.folder / f"batch-{at:05d}")
        ]

    @property
    def rows(self) -> int:
        """Documents in the index, removed ones included."""
        return sum(batch["rows"] for batch in self.batches)

    @property
    def components(self) -> Ints:
        """The first row of the component of every document."""
        if not self.batches:
            return np.zeros(0, np.int64)
        return np.array(read_array(self.folder / f"components-{len(self.batches) - 1:05d}.npy"))

    def grow(self, name: str, signed: Path, components: Ints) -> None:
        """Take in a batch. The manifest is written last: a kill leaves the index as it was."""
        at = len(self.batches)
        rows = len(components) - self.rows
        with disk_guard(str(self.folder)):
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_directory(self.folder / f"batch-{at:05d}") as partial:
                halves = shutil.ignore_patterns(".*.partial")  # of chunks, after a kill
                shutil.copytree(
                    signed, partial, ignore=halves, copy_function=_link, dirs_exist_ok=True
                )
            place = self.folder / f"components-{at:05d}.npy"
            with atomic_file(place) as partial:
                save(components, partial)
            manifest = {
                "form": _FORM,
                "parameters": self.parameters,
                "batches": [*self.batches, {"name": name, "rows": rows}],
            }
            write_json(self.folder / "index.json", manifest)
        # Only now: until the manifest names the new batch, the index reads the old components. All
        # of them, as a kill may have left some.
        for old in range(at):
            (self.folder / f"components-{old:05d}.npy").unlink(missing_ok=True)


@contextmanager
def index_at(
    folder: str | Path | None, options: DedupOptions, dry_run: bool
) -> Iterator[SignedIndex | None]:
    """The index in `folder`, with which no other process works meanwhile; None without a folder.

    Raises PomonaError as `open_index`, and when another process works with it.
    """
    if folder is None:
        yield None
        return
    path = Path(check_name(folder))
    place = path.with_name(f".{path.name}.lock")
    # Read once it is held: what another process has taken in until then is a batch like any other.
    with (
        nullcontext()
        if dry_run
        else Lock(place, doing="working with it", where=folder, other="index")
    ):
        if not dry_run and path.is_dir():
            sweep(path)
        yield open_index(folder, options)


def open_index(folder: str | Path, options: DedupOptions) -> SignedIndex:
    """The index in `folder`, or an empty one. Raises PomonaError when it was made with other
    parameters or is no index.
    """
    folder = Path(check_name(folder))
    parameters = {
        **options.signing(),
        "threshold": options.threshold,
        "normal_form": NORMAL_FORM if options.method == "minhash" else None,
    }
    if folder.exists() and not folder.is_dir():
        raise PomonaError("is no folder", where=folder, remedy="name a new folder for the index")
    if not folder.exists() or not any(folder.iterdir()):
        return SignedIndex(folder, parameters, [])
    note = folder / "index.json"
    if not note.exists() and not any(folder.glob("batch-*")):
        raise PomonaError(
            "holds files and is not an index",
            where=folder,
            remedy="name a new folder for the index",
        )
    if not note.exists():
        return SignedIndex(folder, parameters, [])
    state = _manifest(note)
    for name, value in state["parameters"].items():
        if parameters.get(name) != value:
            message = f"the index was made with {name}={value}, not {parameters.get(name)}"
            raise PomonaError(
                message, where=folder, remedy="use the same parameters, or another index"
            )
    index = SignedIndex(folder, parameters, state["batches"])
    if wrong := _fault(index):
        raise _damaged(wrong, folder)
    return index


def _damaged(wrong: str, where: Path) -> PomonaError:
    remedy = "take the index from a backup, or begin another in a new folder"
    return PomonaError(f"the index is damaged: {wrong}", where=where, remedy=remedy)


def _manifest(note: Path) -> dict[str, Any]:
    """What the manifest of an index says. Raises PomonaError when it is damaged or of another
    form.
    """
    state = read_json(note, remedy="take the index from a backup, or begin another")
    form, batches = state.get("form"), state.get("batches")
    if type(form) is int and form != _FORM:
        raise PomonaError(
            f"the index has form {form}, this version reads {_FORM}",
            where=note.parent,
            remedy="make it again",
        )
    if form != _FORM or not isinstance(state.get("parameters"), dict):
        raise _damaged("form or parameters are missing", note)
    if not isinstance(batches, list) or not all(map(_is_batch, batches)):
        raise _damaged("it lists no batches with their names and rows", note)
    return state


def _is_batch(batch: object) -> bool:
    if not isinstance(batch, dict) or not isinstance(batch.get("name"), str):
        return False
    return type(batch.get("rows")) is int and batch["rows"] >= 0


def _fault(index: SignedIndex) -> str | None:
    """What keeps the files of an index from being what its manifest says. Only heads are read."""
    try:
        chunks = index.chunks
        rows = sum(_rows(chunk) for chunk in chunks)
        of = index.components
    except PomonaError as error:
        return f"{error.where} {error.message}"
    except (OSError, ValueError, EOFError, KeyError, TypeError) as error:
        return first_line(error)
    if rows != index.rows:
        return f"{rows:,} documents where the manifest says {index.rows:,}"
    if (
        of.dtype != np.int64
        or of.shape != (rows,)
        or (rows and not 0 <= of.min() <= of.max() < rows)
    ):
        return "its components are not those of its documents"
    return None


def _rows(chunk: Path) -> int:
    """The documents of a chunk. Raises OSError, ValueError or KeyError when it is damaged."""
    for name, (size, _) in read_json(chunk / "sums.json").items():
        held = read_array(chunk / f"{name}.npy")
        if held.size != size:
            raise ValueError(f"{chunk / name}.npy has {held.size} values, not {size}")
    return len(read_array(chunk / "prints.npy"))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
