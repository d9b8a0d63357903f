"""A recipe with a `search` section, read and checked: what is free, and how a point becomes a
recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pomona.errors import PomonaError
from pomona.merge.search.experts import experts_of, without
from pomona.merge.search.settings import read_search
from pomona.merge.search.space import Space, fill, has_free, space_of


class Problem:
    """The settings, experts and free parameters of a recipe; for greedy soups the experts
    themselves are what is free.

    Raises PomonaError for a section that cannot be read, without free parameters, and for greedy
    with some.
    """

    def __init__(self, document: Mapping[str, Any], trials: int | None = None) -> None:
        settings = read_search(document)
        self.document = document
        self.settings = replace(settings, trials=trials) if trials is not None else settings
        self.experts = experts_of(document)
        self.greedy = self.settings.method == "greedy"
        if self.greedy and has_free(document):
            message = (
                "greedy chooses among the experts of a recipe, and this one also has free "
                "parameters"
            )
            raise PomonaError(
                message,
                where="search.method",
                remedy="write numbers in their place, or search by cma, optuna, random or grid",
            )
        self.space = (
            Space.of({expert.name: [0.0, 1.0] for expert in self.experts})
            if self.greedy
            else space_of(document)
        )

    def recipe(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe at a point: its parameters filled in, or with the chosen experts only."""
        if not self.greedy:
            return fill(self.document, values)
        out = [expert for expert in self.experts if not values[expert.name]]
        return fill(without(self.document, out) if out else self.document, {})

    def first(self) -> dict[str, Any]:
        """The recipe that is planned before all others, to see whether it can be: the middle, or
        all experts.
        """
        return self.recipe(
            dict.fromkeys(self.space.names, 1.0) if self.greedy else self.space.middle()
        )
