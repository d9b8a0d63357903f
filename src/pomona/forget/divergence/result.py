"""What comparing two models tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from pomona.forget.change import FORMAT
from pomona.forget.divergence.figures import ModelChange

UNITS = {
    "accuracy, flips, same_top, delta_p": "shares of tokens, 0 to 1; a difference is B - A",
    "kl": "nats a token, of B from A: KL(A || B)",
    "metric": "bits per byte of the text; less is better",
    "p_mcnemar": "exact, two-sided, over tokens; p_holm and p_bh: corrected over the groups",
    "p_bootstrap": "from the resamples that the interval is of",
    "p_metric": "Student's t over documents or clusters of them",
}


@dataclass(frozen=True)
class Divergence:
    """Two models on the same text. `documents` has a row for each document, or chunk of one: row in
    the table, how it begins, group, tokens, bytes, mean KL (its lower bound where only bounds are
    known), bits per byte under both, tokens lost and gained.

    reason: why all but bits per byte is unknown, where the two cannot be compared token by token.
    """

    a: str
    b: str
    overall: ModelChange
    groups: Mapping[str, ModelChange]
    signature: str
    seed: int
    resamples: int
    reason: str | None = None
    notes: Sequence[str] = ()
    documents: pa.Table | None = field(default=None, compare=False, repr=False)
    metric: str = "bits_per_byte"
    higher_is_better: bool = False

    def to_json(self) -> dict[str, Any]:
        """All but the documents, as JSON has it; what reads comparisons of items reads it too."""
        told: dict[str, Any] = {"pomona_comparison": FORMAT, "a": self.a, "b": self.b}
        told["overall"] = asdict(self.overall)
        told["groups"] = {name: asdict(change) for name, change in self.groups.items()}
        names = ("metric", "higher_is_better", "reason", "seed", "resamples", "signature")
        told |= {name: getattr(self, name) for name in names}
        return {**told, "notes": list(self.notes), "units": UNITS}

    def to_table(self) -> pa.Table:
        """A row for all documents, whose group is null, and one for each group."""
        rows = [{"group": None, **asdict(self.overall)}]
        rows += [{"group": name, **asdict(change)} for name, change in self.groups.items()]
        return pa.Table.from_pylist(rows)
