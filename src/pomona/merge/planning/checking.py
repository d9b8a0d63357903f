"""What a merge is refused for, found before anything is written and said for all tensors at
once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pomona.errors import PomonaError, quantity
from pomona.merge.plan import TensorJob
from pomona.merge.planning.models import Opened
from pomona.merge.reading.parameters import Method
from pomona.models.tensors import Stored, Tensors, is_embedding, is_head

_SHOWN = 12
_AVERAGES = {"linear": "normalize", "multislerp": "normalize_weights"}
_SUMS = ("task_arithmetic", "dare_linear", "della_linear", "breadcrumbs")


class Problems:
    """Gathers what is wrong with tensors; what several tensors have in common is said once, with
    their number.
    """

    def __init__(self) -> None:
        self._errors: dict[tuple[str, ...], tuple[PomonaError, list[str]]] = {}

    def _add(
        self, name: str, key: tuple[str, ...], text: str, where: str | Path, remedy: str
    ) -> None:
        error = PomonaError(text, where=where, remedy=remedy)
        self._errors.setdefault(key, (error, []))[1].append(name)

    def lacking(self, model: Opened, name: str, holder: Opened) -> None:
        """A tensor that another model of the merge has."""
        remedy = "merge models of one kind, or give a key_map that says which tensors go together"
        if is_embedding(name) and not model.ties:
            remedy = (
                "its config.json says tie_word_embeddings: false; set it to true if its "
                "embedding is its head, or copy the model again"
            )
        text = f'has no tensor "{name}", which "{holder.name}" has'
        self._add(name, ("lacking", model.name, holder.name, remedy), text, model.folder, remedy)

    def shapes(
        self,
        name: str,
        one: Opened,
        shape: Sequence[int],
        other: Opened,
        other_shape: Sequence[int],
        remedy: str,
    ) -> None:
        """Two models whose tensors have different shapes."""
        text = (
            f'tensor "{name}" is {list(other_shape)} in "{other.name}" and {list(shape)} in '
            f'"{one.name}"'
        )
        self._add(name, ("shape", one.name, other.name, remedy), text, other.folder, remedy)

    def unlike(self, name: str, dtypes: tuple[str, str], one: Opened, other: Opened) -> None:
        """A tensor not of floats, or one that scales quantised weights, that differs between
        models.
        """
        text = (
            f'tensor "{name}" ({dtypes[1]}) differs between "{other.name}" and "{one.name}", and '
            "only weights in floating-point numbers can be merged"
        )
        if dtypes[0] != dtypes[1]:
            text = (
                f'tensor "{name}" is {dtypes[1]} in "{other.name}" and {dtypes[0]} in "{one.name}"'
            )
        remedy = f'make them equal, or take those of "{one.name}": integers: base'
        if one.packed or other.packed:
            remedy = "save the models in bfloat16 first: this kind of quantisation is not read"
        self._add(name, ("unlike", one.name, other.name, *dtypes), text, other.folder, remedy)

    def missing_value(self, parameter: str, model: str | None, name: str, listed: bool) -> None:
        """A required parameter without a value; `listed` is False for a base that the recipe does
        not list among its models.
        """
        whose = f' of model "{model}"' if model else ""
        text = f'"{parameter}"{whose} has no value for tensor "{name}"'
        place = "to the model or to the recipe" if model else "to the recipe"
        remedy = f'give it {place}: "parameters": {{{parameter}: …}}'
        if not listed:
            remedy = (
                "the base counts as one more model here: list it with its own "
                f"{parameter}, which may be 0, or leave base_model out"
            )
        self._add(name, ("value", parameter, model or ""), text, "parameters", remedy)

    def value(self, name: str, wrong: tuple[str, str]) -> None:
        """Values of parameters that cannot be used."""
        self._add(name, ("use", *wrong), f'tensor "{name}": {wrong[0]}', "parameters", wrong[1])

    def raise_all(self) -> None:
        """Raise one PomonaError with everything that is wrong, if anything is."""
        told = []
        for error, names in list(self._errors.values())[:_SHOWN]:
            more = f" (and {len(names) - 1} more such tensors)" if len(names) > 1 else ""
            told.append(PomonaError(error.message + more, where=error.where, remedy=error.remedy))
        if len(told) == 1:
            raise told[0]
        if len(self._errors) > _SHOWN:
            told.append(PomonaError(f"and {quantity(len(self._errors) - _SHOWN, 'more problem')}"))
        if told:
            raise PomonaError("\n".join(map(str, told)))


def vocabulary_remedy(name: str, one: Sequence[int], other: Sequence[int]) -> str:
    """What to do about two shapes of a tensor."""
    if (is_embedding(name) or is_head(name)) and one[1:] == other[1:]:
        return (
            "the vocabularies differ: say whose tokens the result has, e.g. "
            "tokenizer_source: union, or base"
        )
    return "merge models of one size"


def check_inputs(method: Method, models: Sequence[str], base: str | None) -> None:
    """Raise PomonaError when the number of models, or the lack of a base, does not suit the
    method.
    """
    where = f"merge_method {method.name}"
    twice = next((name for name in models if models.count(name) > 1), None)
    if twice:
        raise PomonaError(
            f'"{twice}" is given twice for the same layers',
            where=where,
            remedy="give it once, with the sum of the weights",
        )
    if method.base == "required" and base is None:
        raise PomonaError("needs a base model", where=where, remedy="add base_model: …")
    if method.base != "ignored" and base is not None and base not in models:
        raise PomonaError(
            f'the base "{base}" is not among the sources of a slice',
            where=where,
            remedy="add it to the sources, with its layers",
        )
    experts = [name for name in models if name != base]
    limits = [
        (
            len(models),
            method.least,
            method.most,
            "models, the base included" if method.base == "required" else "models",
        )
    ]
    if method.base != "ignored":
        limits.append(
            (
                len(experts),
                *method.experts,
                "models beside the base" if method.base == "required" or base else "models",
            )
        )
    for count, least, most, what in limits:
        if count < least or (most is not None and count > most):
            wanted = (
                f"exactly {least}"
                if least == most
                else (f"at least {least}" if count < least else f"at most {most}")
            )
            what = what.replace("models", "model") if wanted.endswith(" 1") else what
            remedy = "add or remove models"
            if method.base == "ignored" and base in models:
                remedy = "the base counts as one more model here: leave base_model out"
            raise PomonaError(
                f"needs {wanted} {what}, found {count}: {', '.join(models)}",
                where=where,
                remedy=remedy,
            )


def check_values(job: TensorJob) -> tuple[str, str] | None:
    """What is wrong with the values of a job's parameters, and the remedy; None when nothing is."""
    weights = [
        float(item.parameters["weight"]) for item in job.inputs if "weight" in item.parameters
    ]
    averaged = job.options.get(_AVERAGES.get(job.method, ""), False)
    summed = job.method in _SUMS and job.options.get("normalize", False) and any(weights)
    if (
        weights
        and (averaged or summed)
        and abs(math.fsum(weights)) <= 1e-7 * max(map(abs, weights))
    ):
        shown = ", ".join(f"{weight:g}" for weight in weights)
        switch = _AVERAGES.get(job.method, "normalize")
        return (
            f"its weights {shown} sum to zero, and {switch} divides by the sum",
            f"use other weights, or {switch}: false",
        )
    for item in job.inputs:
        for name, most in (("density", math.inf), ("gamma", 1)):
            if not 0 <= float(item.parameters.get(name, 0)) <= most:
                return f'"{name}" is {item.parameters[name]:g}', "use a share from 0 to 1"
        if "epsilon" in item.parameters and 0 < item.parameters["density"] < 1:
            density, epsilon = item.parameters["density"], item.parameters["epsilon"]
            if density + epsilon >= 1 or density - epsilon <= 0 or epsilon < 0:
                return (
                    f'"density" {density:g} ± "epsilon" {epsilon:g} leaves the range from 0 to 1',
                    "use a smaller epsilon",
                )
    return None


def same_bytes(one: Stored, other: Stored) -> bool:
    """Whether two tensors hold the same."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return Tensors(one.folder).raw(one.name) == Tensors(other.folder).raw(other.name)
