"""Examples of a run: some test items with what the base, the best system and a control answered, so
that numbers can be read beside the texts that they stand for.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, zip_longest
from pathlib import Path

from pomona.documents import read_json
from pomona.errors import PomonaError
from pomona.files import json_text

FORMAT = 1
NAME = "examples.json"  # in the folder of a run
_REMEDY = "run `pomona run` on the recipe again, which writes it anew from the finished steps"


@dataclass(frozen=True)
class Example:
    """A test item: its input, its references, and the answers of the systems with what the metric
    gives to each of them, in the order of `Examples.systems`. `parts` are "head" or "tail", "near",
    "middle" or "far", "warm" or "cold".
    """

    id: str
    group: str
    parts: list[str]
    input: str
    references: list[str]
    answers: list[str]
    scores: list[float | None]


@dataclass(frozen=True)
class Examples:
    """Some of `items` test items. `systems` gives the variant of each role, such as base, best and
    control; `seed` is that of the choice of items.
    """

    metric: str
    higher_is_better: bool
    seed: int
    items: int
    systems: dict[str, str]
    examples: list[Example]

    def text(self) -> str:
        """What `examples.json` in the folder of a run holds."""
        return json_text({"pomona_examples": FORMAT, **asdict(self)})

    @classmethod
    def read(cls, path: str | Path) -> Examples:
        """Read what `text` wrote. Raises PomonaError for a missing, broken or newer file."""
        from pydantic import TypeAdapter, ValidationError

        wrong = "is not a whole JSON file"
        document = read_json(path, wrong=wrong, remedy=_REMEDY)
        version = document.pop("pomona_examples", None)
        if version != FORMAT:
            message = f"has format {version}; this Pomona reads format {FORMAT}"
            raise PomonaError(message, where=path, remedy=_REMEDY)
        try:
            found = TypeAdapter(cls).validate_python(document)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise PomonaError(f"`{key}`: {first['msg']}", where=path, remedy=_REMEDY) from error
        for place, example in enumerate(found.examples):
            if {len(example.answers), len(example.scores)} != {len(found.systems)}:
                message = f"`examples.{place}`: one answer and one score a system"
                raise PomonaError(message, where=path, remedy=_REMEDY)
        return found


@dataclass(frozen=True)
class Answered:
    """What a system answered to every item, and what the metric gives to each answer."""

    variant: str
    answers: Sequence[str]
    scores: Sequence[float]


def choose_examples(
    systems: Mapping[str, Answered],
    *,
    metric: str,
    ids: Sequence[str],
    groups: Sequence[str],
    inputs: Sequence[str],
    references: Sequence[Sequence[str]],
    parts: Mapping[str, Iterable[int]],
    seed: int,
    higher_is_better: bool = True,
    most: int = 24,
) -> Examples:
    """At most `most` items, as many of each kind as of the others as far as there are any: head and
    tail, near and far, warm and cold. All sequences have an element for each of n items.

    `systems` are keyed by role, in the order in which answers are shown; `parts` has the rows of
    each part. Within a kind the items are in an order that their ids and the seed decide, so that
    another run on the same items shows the same ones.
    """
    of: list[list[str]] = [[] for _ in ids]
    for name, rows in parts.items():
        for row in rows:
            of[row].append(name)
    kinds: dict[tuple[str, ...], list[int]] = {}
    for row in sorted(range(len(ids)), key=lambda row: _rank(seed, ids[row])):
        kinds.setdefault(tuple(sorted(of[row])), []).append(row)
    turns = zip_longest(*(kinds[kind] for kind in sorted(kinds)))
    rows = [row for row in chain.from_iterable(turns) if row is not None][:most]
    return Examples(
        metric=metric,
        higher_is_better=higher_is_better,
        seed=seed,
        items=len(ids),
        systems={role: answered.variant for role, answered in systems.items()},
        examples=[
            Example(
                id=ids[row],
                group=groups[row],
                parts=of[row],
                input=inputs[row],
                references=list(references[row]),
                answers=[answered.answers[row] for answered in systems.values()],
                scores=[_known(answered.scores[row]) for answered in systems.values()],
            )
            for row in sorted(rows, key=lambda row: (sorted(of[row]), groups[row], ids[row]))
        ],
    )


def _known(score: float) -> float | None:
    """None for the value of an item that the metric gives none."""
    return None if math.isnan(score) else float(score)


def _rank(seed: int, name: str) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()
