"""What a selector needs to choose for questions that come one by one, as a file: which candidates
are gathered, and whether a model is asked for the log-probability of those that come first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pomona.documents import read_json
from pomona.errors import PomonaError
from pomona.files import json_text, write_json
from pomona.memory.candidates import FEATURES
from pomona.memory.phrases import COMPOSED, EDITED
from pomona.memory.selector import Selector

SHORTLIST = 4
_FORM = "pomona-memory-selector-1"
_REMEDY = "give a file that `pomona sample selector` wrote"
_LOGPROB = FEATURES.index("logprob")
_COUNTS = {"shortlist": 1, "neighbours": 0, "edited": 1, "composed": 1}  # and their least


@dataclass(frozen=True)
class Shortlist:
    """The `texts` that come first, best first, what is known of each `[k, f]`; how far each of the
    `others` is below the last of these; and the FLOPs of the search.
    """

    texts: list[str]
    features: NDArray[np.float64]
    others: dict[str, float]
    flops: float

    def with_logprobs(self, logprobs: Sequence[float]) -> NDArray[np.float64]:
        """What is known of each text, with what a model gives to each token of it, its end
        included.
        """
        known = self.features.copy()
        known[:, _LOGPROB] = logprobs
        return known


@dataclass(frozen=True)
class MemorySelector:
    """Chooses among `neighbours` answers of the nearest rows as they are, those that are put
    together (see `Phrases`), the source and, if it `draws`, what a model drew: by `selector` where
    there is no `first`; else the first puts `shortlist` of them before a model, whose
    log-probabilities the selector weighs too. `learned` says how it was learned, and is no part of
    the signature.
    """

    selector: Selector
    first: Selector | None = None
    shortlist: int = SHORTLIST
    neighbours: int = 0
    edited: int = EDITED
    composed: int = COMPOSED
    draws: bool = False
    learned: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def scored(self) -> int:
        """Of how many candidates a model gives log-probabilities."""
        return 0 if self.first is None else self.shortlist

    @cached_property
    def signature(self) -> str:
        """16 hex digits of all that its choice depends on."""
        return hashlib.sha256(json_text(self._document()).encode()).hexdigest()[:16]

    def shortlisted(
        self, texts: Sequence[str], features: NDArray[np.float64], flops: float
    ) -> Shortlist:
        """The candidates that a model is asked about; all where none is. Equal scores stay in their
        order.
        """
        if self.first is None:
            return Shortlist(list(texts), features, {}, flops)
        scores = np.round(self.first.scores([features])[0], 9)
        order = np.argsort(-scores, kind="stable")
        best, rest = order[: self.shortlist], order[self.shortlist :]
        others = {texts[int(at)]: float(scores[at] - scores[best[-1]]) for at in rest}
        return Shortlist([texts[int(at)] for at in best], features[best], others, flops)

    def scores(self, found: Shortlist, logprobs: Sequence[float] | None = None) -> list[float]:
        """The score of each text of a shortlist, by what a model gives to each where it is
        asked.
        """
        known = found.features if logprobs is None else found.with_logprobs(logprobs)
        return [float(score) for score in self.selector.scores([known])[0]]

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        write_json(path, self._document() | {"learned": dict(self.learned)})

    @classmethod
    def load(cls, path: str | Path) -> MemorySelector:
        """What `save` wrote. Raises PomonaError for a file that is none."""
        found = read_json(path, wrong="is no selector of a memory", remedy=_REMEDY)
        told = found.pop("learned", {})
        if found.pop("form", None) != _FORM or set(found) != _FIELDS or not isinstance(told, dict):
            raise PomonaError("is no selector of a memory", where=path, remedy=_REMEDY)
        whole = all(type(found[n]) is int and found[n] >= least for n, least in _COUNTS.items())
        if not whole or type(found["draws"]) is not bool:
            raise PomonaError("has numbers that are none", where=path, remedy=_REMEDY)
        chooses = {
            name: None if found[name] is None else Selector.of(found[name], path)
            for name in ("first", "selector")
        }
        named = {one.names for one in chooses.values() if one is not None}
        if chooses["selector"] is None or named != {FEATURES}:
            message = "weighs other features than are known of candidates"
            raise PomonaError(message, where=path, remedy="learn it again")
        return cls(**{**found, **chooses}, learned=told)

    def _document(self) -> dict[str, Any]:
        first = None if self.first is None else self.first.document()
        own = {name: value for name, value in asdict(self).items() if name in _FIELDS}
        return {"form": _FORM, **own, "first": first, "selector": self.selector.document()}


_FIELDS = {"selector", "first", "draws", *_COUNTS}
