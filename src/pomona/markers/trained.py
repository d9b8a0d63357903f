"""What a model was trained with: its markers and the form of their lists, in a file of its
checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute
from pydantic import Field

from pomona.documents import StrictModel, model_of, read_json
from pomona.errors import PomonaError, nearest
from pomona.files import write_json
from pomona.markers.columns import PREFIX
from pomona.markers.lists import Form, Offered
from pomona.markers.taxonomy import Marker, Taxonomy, Value
from pomona.models import locate, names, present, smollm2_path

pc: Any = pyarrow.compute  # its stubs lack most functions

NAME = "markers.json"
AUTO = "auto"  # in place of a value
_BEST = 0.95  # the quantile of quality that is asked for, as in the paper
_LARGEST = 1 << 22
_REMEDY = (
    "train on what `pomona markers apply` wrote and put its OUT.markers.json into the checkpoint "
    f"as {NAME}; where a model has no folder, name that file: --markers-from FILE"
)


@dataclass(frozen=True)
class Trained:
    """What a model was trained with.

    auto: of a marker of quality the value that is asked for by "auto", by group; "" is of all rows.
    by: the marker whose values these groups are.
    """

    taxonomy: Taxonomy
    form: Form
    auto: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    by: str | None = None

    def values(self, given: Mapping[str, Value]) -> dict[str, Value]:
        """What is asked for: values as they are, and what stands for each "auto" in the group that
        is given, else of all rows. Raises PomonaError for a marker that stands in no list, a value
        that is none of its marker's, and "auto" of a marker that is no quality.
        """
        group = str(given.get(self.by, "")) if self.by is not None else ""
        found: dict[str, Value] = {}
        for name, value in given.items():
            marker = self.taxonomy.listed.get(name)
            if value == AUTO and marker is not None and AUTO not in marker.values:
                known = self.auto.get(name)
                if known is None:
                    some = f"only {', '.join(self.auto)}" if self.auto else "no marker"
                    remedy = f"give a value: {some} of this model knows the best"
                    raise PomonaError(f'marker "{name}" has no "{AUTO}"', remedy=remedy)
                value = known.get(group, known[""])
            found[name] = value
        self.taxonomy.check(found)
        return {name: found[name] for name in self.taxonomy.listed if name in found}

    def document(self) -> dict[str, object]:
        """As it stands in the file."""
        return {
            "format": 1 if self.form == "compact1" else 2,
            "taxonomy": self.taxonomy.model_dump(mode="json", exclude_defaults=True),
            "digest": self.taxonomy.digest,
            "form": "compact" if self.form == "compact1" else self.form,
            "auto": {name: dict(groups) for name, groups in self.auto.items()},
            "by": self.by,
        }


class _File(StrictModel):
    format: Literal[1, 2]  # in 1 compact lists were others
    taxonomy: Taxonomy
    digest: str
    form: Offered
    auto: dict[str, dict[str, Value]] = Field(default={})
    by: str | None = None

    def mistakes(self) -> Iterator[str]:
        """What does not fit together."""
        if self.digest != self.taxonomy.digest:
            yield "its taxonomy was changed after it was written: the digest is another"
            return
        listed = self.taxonomy.listed
        for name in self.auto:
            if name not in listed:
                yield f'"auto" has "{name}", which stands in no list — {nearest(name, listed)}'
            elif "" not in self.auto[name]:
                yield f'"auto" of "{name}" lacks that of all rows, ""'
            elif wrong := list(filter(None, map(listed[name].wrong, self.auto[name].values()))):
                yield f'"auto" of "{name}" {wrong[0]}'
        if self.by is not None and self.by not in self.taxonomy.markers:
            yield f'"by" is "{self.by}", and there is no such marker'


def write_trained(folder: str | Path, trained: Trained) -> Path:
    """Write what a model was trained with into the folder of its checkpoint; returns the file."""
    path = Path(folder, NAME)
    write_json(path, trained.document())
    return path


def read_trained(model: str | Path) -> Trained:
    """What a model was trained with: from its folder or URI, or from the file itself.

    Raises PomonaError where a model was not trained with markers, and with file and mistake where
    the file is damaged, or its taxonomy was changed.
    """
    if (found := find_trained(model)) is None:
        raise untrained(str(model))
    return found


def untrained(model: str) -> PomonaError:
    """The error of a model that was not trained with markers."""
    return PomonaError("was not trained with markers", where=model, remedy=_REMEDY)


def find_trained(model: str | Path) -> Trained | None:
    """What a model was trained with, None where it was not trained with markers; see
    `read_trained`.
    """
    path = _file_of(model)
    if path is None or (path.name == NAME and not path.is_file()):
        return None
    remedy = "copy it again from what `pomona markers apply` wrote: OUT.markers.json"
    told = read_json(path, largest=_LARGEST, remedy=remedy)
    try:
        file = model_of(told, _File, kind=f"file {NAME}")
        wrong = next(file.mistakes(), None)
    except PomonaError as error:
        raise PomonaError(error.message, where=path, remedy=remedy) from error
    if wrong is not None:
        raise PomonaError(wrong, where=path, remedy=remedy)
    before = file.format == 1 and file.form == "compact"
    return Trained(file.taxonomy, "compact1" if before else file.form, file.auto, file.by)


def names_markers(model: str) -> bool:
    """Whether a model's folder is here and says so; nothing is fetched."""
    folder = os.path.expanduser(model.removeprefix("hf:"))  # noqa: PTH111 of any text
    return os.path.isfile(Path(folder, NAME))  # noqa: PTH113


def _file_of(model: str | Path) -> Path | None:
    """Where it would stand, None for what has no folder."""
    text = str(model)
    if text.startswith(("http:", "https:", "gguf:")) or text == smollm2_path().parent.name:
        return None
    if os.path.isdir(text):  # noqa: PTH112 any text may be asked for
        return Path(text, NAME)
    if text.endswith(".json") or (os.path.isfile(text) and not text.endswith(".gguf")):  # noqa: PTH113
        return Path(text)
    return (present(text) if text in names() else locate(text)) / NAME


def trained_of(table: pa.Table, taxonomy: Taxonomy, form: Form) -> Trained:
    """What a model is trained with that learns from these tagged rows.

    For "auto" it has the 95th percentile of each listed float or integer whose name begins with
    "quality", and of its buckets the one in which 95 of 100 rows are no better; within the groups
    of the marker that such buckets are `within`, else of `lang`.
    """
    markers = taxonomy.markers
    buckets = [one for one in markers.values() if one.of in _qualities(taxonomy)]
    groups = [one.within for one in buckets if one.within is not None]
    by = next(iter([*groups, *(["lang"] if "lang" in markers else [])]), None)
    auto: dict[str, dict[str, Value]] = {}
    for name in auto_markers(taxonomy):
        found = _best(table, name, markers[name], by)
        if found:
            auto[name] = found
    return Trained(taxonomy, form, auto, by if auto else None)


def auto_markers(taxonomy: Taxonomy) -> list[str]:
    """The markers in lists that can be given as "auto", where anything says them of the rows."""
    quality = _qualities(taxonomy)
    return [name for name, one in taxonomy.listed.items() if name in quality or one.of in quality]


def _qualities(taxonomy: Taxonomy) -> list[str]:
    return [
        name
        for name, one in taxonomy.markers.items()
        if name.startswith("quality") and one.kind in ("float", "integer")
    ]


def _best(table: pa.Table, name: str, marker: Marker, by: str | None) -> dict[str, Value]:
    """The 95th percentile by group, and under "" of all rows; nothing where it is not known."""
    tags = table[PREFIX + name].combine_chunks()
    known = tags.is_valid()
    values = tags.filter(known)
    if not len(values):
        return {}
    told = _percentile(values, marker)
    if by is None:
        return {"": told}
    coded = table[PREFIX + by].combine_chunks().filter(known).cast(pa.string()).dictionary_encode()
    found: dict[str, Value] = {"": told}
    for at, group in enumerate(coded.dictionary.to_pylist()):
        rows = pc.equal(coded.indices, at)
        found[group] = _percentile(values.filter(rows), marker)
    return found


def _percentile(values: pa.Array, marker: Marker) -> Value:
    if marker.kind != "buckets":
        least = float(np.quantile(values.cast(pa.float64()).to_numpy(), _BEST))
        return round(least) if marker.kind == "integer" else least
    order = list(marker.values) if marker.edges is not None else list(marker.values)[::-1]
    places = np.sort([order.index(one) for one in values.to_pylist()])
    return order[places[ceil(_BEST * len(places)) - 1]]
