"""A router: which teacher will answer best, told from the prompt alone.

Multinomial logistic regression on soft targets, softmax(reward / T) over the teachers that answered
a row. The paper (Odumakinde et al. 2024) trains a language model on targets of this kind; hashed
n-grams, the temperature and the term for costs are ours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pomona.errors import PomonaError
from pomona.files import atomic_file, json_text
from pomona.synth.routing.features import Features
from pomona.synth.routing.policies import Group, Keep, grouped
from pomona.synth.teachers import Assignment

_FORM = "pomona-router-1"
_NO_ROUTER = "give the file that a router was saved to"


@dataclass(frozen=True)
class Router:
    """Probabilities of teachers by `weights` `[columns, t]` of a prompt's features. `costs` `[t]`
    of an answer, in any unit, times `cost_weight` are taken off before the highest is chosen.
    `learned` says from what it was learned, and is no part of the signature.
    """

    teachers: tuple[str, ...]
    features: Features
    weights: NDArray[np.float32] = field(repr=False, compare=False)
    costs: tuple[float, ...]
    cost_weight: float = 0.0
    learned: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def probabilities(self, rows: Sequence[Assignment]) -> NDArray[np.float64]:
        """That each teacher answers best, `[n, t]`, if all of them answer."""
        # Row by row: making a sparse matrix of all takes longer, of long texts ten times as long.
        told = [self.features.times(row, self.weights) for row in rows]
        logits = np.array(told).reshape(-1, len(self.teachers))
        likely = np.exp((logits - logits.max(1, keepdims=True)).astype(np.float64))
        return likely / likely.sum(1, keepdims=True)

    def rank(self, rows: Sequence[Assignment]) -> NDArray[np.intp]:
        """The teachers by probability less costs, the highest first, `[n, t]`."""
        told = self.probabilities(rows) - self.cost_weight * np.array(self.costs)
        return np.argsort(-np.round(told, 9), axis=1, kind="stable")

    @cached_property
    def signature(self) -> str:
        """16 hex digits of all that it chooses by."""
        told = hashlib.sha256(json_text(self._document()).encode())
        told.update(np.ascontiguousarray(self.weights).tobytes())
        return told.hexdigest()[:16]

    def save(self, path: str | Path) -> None:
        """Write it as safetensors: the rows of its weights that are not zero, and the rest in the
        file's metadata.
        """
        rows = np.flatnonzero(self.weights.any(1)).astype(np.int64)
        told = self._document() | {"learned": dict(self.learned)}
        tensors = {"rows": rows, "weights": np.ascontiguousarray(self.weights[rows])}
        with atomic_file(path) as partial:
            partial.write_bytes(save(tensors, {"router": json_text(told)}))

    @classmethod
    def load(cls, path: str | Path) -> Router:
        """What `save` wrote. Raises PomonaError for a file that is no router."""
        try:
            with safe_open(path, framework="numpy") as file:
                told = json.loads((file.metadata() or {})["router"])
                rows, values = file.get_tensor("rows"), file.get_tensor("weights")
            features = Features(**{**told["features"], "langs": tuple(told["features"]["langs"])})
            weights = np.zeros((features.columns, len(told["teachers"])), np.float32)
            weights[rows] = values
            if told["form"] != _FORM or len(told["costs"]) != len(told["teachers"]):
                raise ValueError
        except FileNotFoundError as error:
            raise PomonaError("there is no such file", where=path, remedy=_NO_ROUTER) from error
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
            raise PomonaError("is no router", where=path, remedy=_NO_ROUTER) from error
        return cls(
            tuple(told["teachers"]), features, weights, tuple(told["costs"]),
            told["cost_weight"], told["learned"],
        )  # fmt: skip

    def _document(self) -> dict[str, Any]:
        return {
            "form": _FORM,
            "teachers": list(self.teachers),
            "features": asdict(self.features) | {"langs": list(self.features.langs)},
            "costs": list(self.costs),
            "cost_weight": self.cost_weight,
        }


@dataclass(frozen=True)
class Learned:
    """A router's teacher, and those that it ranks next where that one gives no answer. `by`: the
    groups that it was learned with in place of languages.
    """

    router: Router
    name: str = "learned"
    by: Group | None = None
    keep: Keep = "first"
    calls: int = 1

    def ask(self, rows: Sequence[Assignment]) -> list[tuple[str, ...]]:
        """See `Policy`."""
        names, ranks = self.router.teachers, self.router.rank(grouped(rows, self.by))
        return [tuple([names[at] for at in ranked]) for ranked in ranks.tolist()]
