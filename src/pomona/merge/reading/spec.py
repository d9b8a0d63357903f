"""The merge methods and their parameters: names, defaults and demands on the models, as mergekit
0.1.5 has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from pomona.errors import PomonaError, nearest

Kind = Literal["number", "count", "flag", "rescale", "scope"]
Per = Literal[
    "merge", "model", "expert"
]  # one value, one for every model with the base, one for every model but the base
REQUIRED: Any = object()


@dataclass(frozen=True)
class Parameter:
    """A parameter: the kind of its values, its default (REQUIRED without one), and what it has one
    value for.
    """

    name: str
    kind: Kind
    default: Any = REQUIRED
    per: Per = "merge"
    effect: bool = True  # False for what is accepted and changes nothing


@dataclass(frozen=True)
class Method:
    """A method. `least` and `most` count all models of a tensor, `experts` the least and most
    without the base.
    """

    name: str
    parameters: tuple[Parameter, ...] = ()
    base: Literal["ignored", "optional", "required"] = "ignored"
    least: int = 1
    most: int | None = None
    experts: tuple[int, int | None] = (0, None)

    def parameter(self, name: str) -> Parameter | None:
        """The parameter called `name`, or None."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)


def _vectors(
    name: str, *more: Parameter, normalize: bool = False, rescale: bool = False, sparse: bool = True
) -> Method:
    """A method on task vectors: base + λ · the (sparse, signed) weighted sum of θ − base."""
    own = [Parameter("scope", "scope", "tensor")] if name == "ties" else []
    return Method(
        name,
        (
            Parameter("weight", "number", per="expert"),
            Parameter("density", "number", 1.0, per="expert", effect=sparse),
            *more,
            Parameter("lambda", "number", 1.0),
            Parameter("normalize", "flag", normalize),
            Parameter("rescale", "rescale", rescale, effect=sparse),
            Parameter("int8_mask", "flag", False, effect=False),
            *own,
        ),
        base="required",
    )


_GAMMA = Parameter("gamma", "number", 0.01, per="expert")
_EPSILON = Parameter("epsilon", "number", 0.15, per="expert")
_WEIGHT = Parameter("weight", "number", per="expert")
_ALL = (
    Method(
        "linear", (Parameter("weight", "number", per="model"), Parameter("normalize", "flag", True))
    ),
    Method("passthrough", (Parameter("scale", "number", None, per="model"),), most=1),
    Method("slerp", (Parameter("t", "number"),), base="required", least=2, most=2),
    Method(
        "nuslerp",
        (
            _WEIGHT,
            Parameter("nuslerp_row_wise", "flag", False),
            Parameter("nuslerp_flatten", "flag", True),
        ),
        base="optional",
        experts=(2, 2),
    ),
    Method(
        "multislerp",
        (_WEIGHT, Parameter("normalize_weights", "flag", True), Parameter("eps", "number", 1e-8)),
        base="optional",
        experts=(1, None),
    ),
    Method("model_stock", (Parameter("filter_wise", "flag", False),), base="required", least=3),
    _vectors("task_arithmetic", sparse=False),
    _vectors("ties", normalize=True),
    _vectors("dare_ties", rescale=True),
    _vectors("dare_linear", rescale=True),
    _vectors("della", _EPSILON, normalize=True, rescale=True),
    _vectors("della_linear", _EPSILON, rescale=True),
    _vectors("breadcrumbs", _GAMMA),
    _vectors("breadcrumbs_ties", _GAMMA),
    Method("karcher", (Parameter("max_iter", "count", 10), Parameter("tol", "number", 1e-5))),
    Method("nearswap", (Parameter("t", "number"),), base="required", least=2, most=2),
    Method("arcee_fusion", base="required", least=2, most=2),
    Method(
        "sce",
        (
            Parameter("int8_mask", "flag", False, effect=False),
            Parameter("select_topk", "number", 1.0),
        ),
        base="required",
    ),
    Method("ram", (Parameter("epsilon", "number", 1e-5),), base="required"),
    Method(
        "ramplus_tl",
        (
            Parameter("r", "number", 0.1),
            Parameter("alpha", "number", 0.2),
            Parameter("epsilon", "number", 1e-5),
        ),
        base="required",
    ),
)
METHODS = {method.name: method for method in _ALL}
RETIRED = frozenset(
    {"embed_slerp", "dtype"}
)  # what recipes hold under "parameters" and mergekit passes over


@cache
def known_parameters() -> frozenset[str]:
    """The names of every method's parameters, and those that have no effect anywhere."""
    return frozenset(parameter.name for method in _ALL for parameter in method.parameters) | RETIRED


def method_of(name: str) -> Method:
    """The method called `name`. Raises PomonaError when there is none."""
    if name not in METHODS:
        raise PomonaError(
            f'unknown merge_method "{name}"',
            where="merge_method",
            remedy=nearest(name.lower(), METHODS),
        )
    return METHODS[name]
