"""A saved index: what earlier documents were like, so that new ones can be held against them
without reading them again.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pomona.data.duplicates._options import NORMAL_FORM, Options
from pomona.data.duplicates._signed import Ints, chunks_in, save
from pomona.documents import read_json
from pomona.errors import PomonaError
from pomona.files import atomic_directory, atomic_file, write_json
from pomona.workspace import disk_guard

_FORM = 1


@dataclass(frozen=True)
class Index:
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
        return np.load(
            self.folder / f"components-{len(self.batches) - 1:05d}.npy", allow_pickle=False
        )

    def grow(self, name: str, signed: Path, components: Ints) -> None:
        """Take in a batch. The manifest is written last: a kill leaves the index as it was."""
        at = len(self.batches)
        rows = len(components) - self.rows
        with disk_guard(str(self.folder)):
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_directory(self.folder / f"batch-{at:05d}") as partial:
                shutil.copytree(signed, partial, copy_function=_link, dirs_exist_ok=True)
            place = self.folder / f"components-{at:05d}.npy"
            with atomic_file(place) as partial:
                save(components, partial)
            manifest = {
                "form": _FORM,
                "parameters": self.parameters,
                "batches": [*self.batches, {"name": name, "rows": rows}],
            }
            write_json(self.folder / "index.json", manifest)
        if at:
            (self.folder / f"components-{at - 1:05d}.npy").unlink(missing_ok=True)


def open_index(folder: str | Path, options: Options) -> Index:
    """The index in `folder`, or an empty one. Raises PomonaError when it was made with other
    parameters or is no index.
    """
    folder = Path(folder)
    parameters = {
        **options.signing(),
        "threshold": options.threshold,
        "normal_form": NORMAL_FORM if options.method == "minhash" else None,
    }
    if not folder.exists() or not any(folder.iterdir()):
        return Index(folder, parameters, [])
    note = folder / "index.json"
    if not note.exists() and not any(folder.glob("batch-*")):
        raise PomonaError("is not an index", where=folder, remedy="give index= a new folder")
    found = (
        read_json(note)
        if note.exists()
        else {"form": _FORM, "parameters": parameters, "batches": []}
    )
    if found["form"] != _FORM:
        raise PomonaError(
            f"the index has form {found['form']}, this version reads {_FORM}",
            where=folder,
            remedy="make it again",
        )
    for name, value in found["parameters"].items():
        if parameters.get(name) != value:
            message = f"the index was made with {name}={value}, not {parameters.get(name)}"
            raise PomonaError(
                message, where=folder, remedy="use the same parameters, or another index"
            )
    return Index(folder, parameters, found["batches"])


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
