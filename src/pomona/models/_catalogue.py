"""The models that come with the package or can be fetched by name."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pomona.errors import PomonaError, nearest
from pomona.models._checkpoint import check, count_parameters

_ASSETS = Path(__file__).parent.parent / "assets"
_EMBEDDED = {
    "ui-xs": "user-interface translation, the smallest step of the ladder",
    "ui-s": "user-interface translation",
    "ui-m": "user-interface translation",
    "ui-l": "user-interface translation, the largest step of the ladder",
    **{
        f"ui-s@{percent}": f"ui-s after {percent} % of its training" for percent in (10, 20, 40, 80)
    },
}
SMOLLM2 = "smollm2"
_SMOLLM2_PARAMETERS = 134_515_008
_SMOLLM2_BYTES = 98_362_432


@dataclass(frozen=True)
class Entry:
    """One model of the catalogue. `parameters` is None while the checkpoint is absent and its size
    unknown; `size` is bytes on disk.
    """

    name: str
    about: str
    parameters: int | None
    size: int
    licence: str
    where: Path
    present: bool


def cache_folder() -> Path:
    """Where fetched and converted models are kept: the environment variable POMONA_CACHE, or the
    user's cache folder.
    """
    import platformdirs

    return Path(os.environ.get("POMONA_CACHE") or platformdirs.user_cache_dir("pomona"))


def smollm2_path() -> Path:
    """The GGUF that `pull("smollm2")` leaves in the cache."""
    return cache_folder() / SMOLLM2 / "SmolLM2-135M-Instruct.Q4_1.gguf"


def names() -> list[str]:
    """Every name of the catalogue, embedded models first."""
    return [*_EMBEDDED, SMOLLM2]


def catalogue() -> list[Entry]:
    """Every model known by name, present on this machine or not."""
    return [entry(name) for name in names()]


def entry(name: str) -> Entry:
    """The entry called `name`; a PomonaError with the nearest name when there is none."""
    if name == SMOLLM2:
        path = smollm2_path()
        about = "SmolLM2-135M-Instruct, Q4_1; fetched by `pomona models pull smollm2`"
        return Entry(
            name, about, _SMOLLM2_PARAMETERS, _SMOLLM2_BYTES, "Apache-2.0", path, path.is_file()
        )
    if name not in _EMBEDDED:
        raise PomonaError(f'unknown model "{name}"', remedy=nearest(name, names()))
    folder = _ASSETS / name
    if not (folder / "config.json").is_file():
        return Entry(name, _EMBEDDED[name], None, 0, "Apache-2.0", folder, present=False)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    return Entry(
        name, _EMBEDDED[name], count_parameters(folder), size, "Apache-2.0", folder, present=True
    )


def folder_of(name: str) -> Path:
    """The checkpoint folder of a catalogue name, checked; a PomonaError says what to do when the
    model is not there.
    """
    from pomona.models._gguf import converted

    found = entry(name)
    if not found.present:
        remedy = (
            "run `pomona models pull smollm2`"
            if name == SMOLLM2
            else "install a release of pomona that ships it, or train it anew"
        )
        raise PomonaError(
            f'model "{name}" is not on this machine', where=found.where, remedy=remedy
        )
    if name == SMOLLM2:
        return converted(found.where)
    check(found.where)
    return found.where
