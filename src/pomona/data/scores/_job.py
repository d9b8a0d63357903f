"""One call of `score`, checked: what is read, what is asked for, and the passes that gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pomona._version import __version__
from pomona.data.scores._input import Layout, Survey
from pomona.data.scores._registry import Chosen
from pomona.records import Records

TEXT = "text"


@dataclass(frozen=True)
class Job:
    """The input and the wishes of one call. `labels` name the models in columns."""

    records: Records
    source: str
    layout: Layout
    chosen: Chosen
    models: tuple[str, ...]
    labels: tuple[str, ...]
    options: dict[str, Any]
    found: Survey

    @property
    def passes(self) -> dict[str, str | None]:
        """Steps of the work: the model of each, or None for the scores of the text alone."""
        alone = self.chosen.of_models <= {"length"}
        steps: dict[str, str | None] = {}
        if self.chosen.of_models:
            steps = {
                f"model-{index}": uri
                for index, uri in enumerate(self.models[: 1 if alone else None])
            }
        return {**steps, **({TEXT: None} if self.chosen.of_text or self.chosen.users else {})}

    def plan(self) -> dict[str, Any]:
        """What must be the same for a run to go on: all but the machine it runs on."""
        return {
            **asdict(self.layout),
            **self.options,
            "scores": list(self.chosen.names),
            "models": list(self.models),
            "rows": self.found.rows,
            "chunks": list(self.found.chunks),
            "sha256": self.found.digest,
            "version": __version__,
        }
