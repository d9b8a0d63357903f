"""A checkpoint as a merge sees it: names, types and shapes, and where each tensor's bytes are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pomona.merge.checkpoints.files import Place, Tensors


@dataclass(frozen=True)
class Stored:
    """One tensor: type and shape, and the folder and name it is stored under."""

    dtype: str  # as safetensors names it
    shape: tuple[int, ...]
    folder: Path
    name: str
    place: Place | None = field(
        default=None, repr=False, compare=False
    )  # where its bytes are, if the checkpoint was open


@dataclass(frozen=True)
class View:
    """The tensors of one model by the names the merge uses. `folder` is the model's own
    (config.json, tokenizer).
    """

    folder: Path
    tensors: Mapping[str, Stored]

    @classmethod
    def of(cls, folder: Path) -> View:
        """A checkpoint folder as it is. Raises PomonaError as `Tensors` does."""
        opened = Tensors(folder)
        return cls(
            folder,
            {
                name: Stored(*opened.info(name), folder, name, opened.place(name))
                for name in opened.names
            },
        )

    @property
    def names(self) -> list[str]:
        """Names of all tensors, sorted."""
        return sorted(self.tensors)

    def info(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Data type and shape."""
        return self.tensors[name].dtype, self.tensors[name].shape

    def locate(self, name: str) -> tuple[Path, str]:
        """Folder and name under which a tensor is stored."""
        return self.tensors[name].folder, self.tensors[name].name

    def with_tensors(self, changed: Mapping[str, Stored]) -> View:
        """The same model with some tensors read elsewhere, or with more of them."""
        return View(self.folder, {**self.tensors, **changed})
