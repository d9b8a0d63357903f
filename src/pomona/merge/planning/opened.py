"""The models of a recipe, found and opened: folder, config.json and tensors by the names the merge
uses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pomona.errors import PomonaError
from pomona.merge.checkpoints.names import Layout, canonical, is_embedding, is_head
from pomona.merge.checkpoints.view import Stored, View
from pomona.merge.reading.references import ModelRef

Resolve = Callable[[str, str | None], Path]
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]


@dataclass(frozen=True)
class Opened:
    """A model: its name in the recipe, its folder, its config.json, and its tensors by canonical
    name.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Stored]

    @cached_property
    def layout(self) -> Layout:
        """Its layers."""
        return Layout(self.tensors)

    def find(self, name: str) -> Stored | None:
        """A tensor; for a head or an embedding that is tied and so stored once, the one it is tied
        to.

        A head that is not tied and still missing is the embedding too, as in mergekit: see
        `stand_ins`.
        """
        if name in self.tensors:
            return self.tensors[name]
        if not (is_head(name) or (self.ties and is_embedding(name))) or not name.endswith("weight"):
            return None
        partners = [other for other in self.tensors if is_embedding(other)] or [
            other for other in self.tensors if is_head(other)
        ]
        shared = [other for other in partners if other.endswith("shared.weight")]
        return self.tensors[(shared or partners)[0]] if len(partners) == 1 or shared else None

    def stand_ins(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are heads of their own by config.json, missing, and made up for by
        the embedding.
        """
        return (
            []
            if self.ties
            else [
                name
                for name in names
                if name not in self.tensors and is_head(name) and self.find(name)
            ]
        )

    @property
    def ties(self) -> bool:
        """Whether its head is its embedding; transformers' default where the config does not
        say.
        """
        text = self.config.get("text_config")
        inner = text.get("tie_word_embeddings", True) if isinstance(text, dict) else True
        return bool(self.config.get("tie_word_embeddings", inner))


def open_model(ref: ModelRef, view: View) -> Opened:
    """Read config.json and name the tensors. Raises PomonaError when there is no config."""
    path = view.folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise PomonaError(
            "is missing",
            where=path,
            remedy="a checkpoint folder has config.json beside its tensors",
        ) from None
    except ValueError as error:
        raise PomonaError(
            f"is not JSON: {error}", where=path, remedy="copy or download it again"
        ) from None
    if ref.architecture:
        config["architectures"] = [ref.architecture]
    names = {canonical(name, config): stored for name, stored in view.tensors.items()}
    return Opened(str(ref), view.folder, config, names)


def locate_model(path: str, revision: str | None = None) -> Path:
    """The folder of a model: a local folder, a name of the catalogue, or a Hugging Face id, which
    is fetched when it is not here.
    """
    folder = Path(path.removeprefix("hf:")).expanduser()
    catalogued = f"{path}@{revision}" if revision else path  # such as ui-s@20
    if revision or not folder.is_dir():
        from pomona.models._catalogue import folder_of, names

        if catalogued in names():
            return folder_of(catalogued)
    if folder.is_dir():
        return folder
    if not _HUB_ID.fullmatch(str(folder)):
        raise PomonaError(
            "no such folder",
            where=path,
            remedy="give a checkpoint folder, a name of the catalogue or a Hugging Face id",
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ModuleNotFoundError:
        raise PomonaError(
            "no such folder",
            where=path,
            remedy="to fetch it from Hugging Face: pip install 'pomona[torch]'",
        ) from None
    try:
        return Path(snapshot_download(str(folder), revision=revision, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PomonaError(
            f"not a local folder, and fetching it failed: {reason}",
            where=path,
            remedy="check the name",
        ) from error


def folders_of(
    refs: tuple[ModelRef, ...], given: Mapping[str, Path], resolve: Resolve
) -> dict[str, Path]:
    """The folder of every model and adapter of a recipe, by path (and revision). `given` folders
    are taken before any other.
    """
    found: dict[str, Path] = {}
    for ref in refs:
        for path, revision in ((ref.path, ref.revision), (ref.lora, ref.lora_revision)):
            if path is None:
                continue
            key = f"{path}@{revision}" if revision else path
            if key not in found:
                found[key] = Path(given[key] if key in given else resolve(path, revision))
    return found
