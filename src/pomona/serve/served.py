"""The models behind the server, and the names clients call them by: NAME, or NAME@STRATEGY."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pomona.errors import PomonaError, nearest
from pomona.markers import Trained
from pomona.models import SMOLLM2, Model, catalogue
from pomona.sample import NAMED, Strategy, parse_strategy
from pomona.web import ApiError

_LONGEST = 200


@dataclass(frozen=True)
class ServedModel:
    """A model under its name. `remote` says that a server answers, which may know parameters we do
    not; `example` is a prompt that fits it, `trained` None where it was not trained with markers.
    """

    name: str
    model: Model
    fingerprint: str
    remote: bool
    example: str
    trained: Trained | None = None
    strategy: Strategy | None = None
    lenient: bool = False

    @property
    def llama(self) -> bool:
        """Whether llama.cpp answers in this process."""
        return self.model.identity.startswith("llama.cpp:")


class ServedModels:
    """All models of a server by name, in the order given; the first judges where a strategy needs a
    judge of its own.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        trained: Mapping[str, Trained] | None = None,
        *,
        lenient: bool = False,
    ) -> None:
        if not models:
            raise PomonaError("no model to serve", remedy="give at least one --model")
        known = trained or {}
        self._served = {
            name: replace(_served(name, model, known.get(name)), lenient=lenient)
            for name, model in models.items()
        }
        self._created = int(time.time())

    @property
    def names(self) -> list[str]:
        """The names of the models, without strategies."""
        return list(self._served)

    @property
    def models(self) -> list[Model]:
        """The models themselves."""
        return [one.model for one in self._served.values()]

    @property
    def trained(self) -> list[Trained]:
        """What the models that were trained with markers know of them."""
        return [one.trained for one in self._served.values() if one.trained is not None]

    def named(self, name: str) -> ServedModel | None:
        """The model of this name, None where there is none."""
        return self._served.get(name)

    def find(self, called: str) -> ServedModel:
        """The model, and the strategy, that a client's name for it means. ApiError 404 where there
        is no such model, 400 for a strategy.
        """
        if (known := self._served.get(called)) is not None:
            return known
        name, at, strategy = called.rpartition("@")
        if at and name in self._served:
            return replace(self._served[name], strategy=read_strategy(strategy, "model"))
        shown = called if len(called) <= _LONGEST else called[:_LONGEST] + "…"
        message = f'the model "{shown}" does not exist here — {nearest(shown, self._served)}'
        raise ApiError(404, message, param="model", code="model_not_found")

    def list(self) -> list[dict[str, Any]]:
        """Every model, alone and with each named strategy, as the API lists them."""
        return [
            self._object(name)
            for model in self._served
            for name in (model, *(f"{model}@{strategy}" for strategy in NAMED))
        ]

    def one(self, called: str) -> dict[str, Any]:
        """The same object for one name."""
        self.find(called)
        return self._object(called)

    def _object(self, name: str) -> dict[str, Any]:
        trained = self.find(name).trained
        markers = {} if trained is None else {"markers": _markers(trained)}
        own = {"id": name, "object": "model", "created": self._created, "owned_by": "pomona"}
        return own | {"example": self.find(name).example} | markers


def read_strategy(given: str | Mapping[str, Any], param: str) -> Strategy:
    """A strategy as a client may name it: no code, patterns or addresses. ApiError 400 where there
    is none.
    """
    try:
        return parse_strategy(given)
    except PomonaError as error:
        raise ApiError(400, str(error)[:1000], param=param, code="unknown_strategy") from error


def _example(model: Model) -> str:
    """A prompt that fits the model: the catalogue's, else a question, or a text to go on with where
    there is no chat template.
    """
    known = {one.name: one.example for one in catalogue()}
    return known.get(model.name) or (known[SMOLLM2] if model.chat_template else "Once upon a time")


def _markers(trained: Trained) -> dict[str, Any]:
    """Each marker with its kind, its values where there are some to choose from, and whether it has
    an "auto".
    """
    return {
        name: {
            "kind": one.kind,
            **({"values": list(one.values)} if one.values else {}),
            "auto": name in trained.auto,
        }
        for name, one in trained.taxonomy.listed.items()
    }


def _served(name: str, model: Model, trained: Trained | None) -> ServedModel:
    fingerprint = "fp_" + hashlib.sha256(model.identity.encode()).hexdigest()[:10]
    remote = model.identity.startswith(("http:", "https:"))
    return ServedModel(name, model, fingerprint, remote, _example(model), trained)
