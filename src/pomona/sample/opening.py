"""Opening the models of a batch, each once and behind the store of its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from pomona.models.chat import ChatModel, open_chat
from pomona.models.chat.protocol import Together
from pomona.sample.lockstep import InStep, Lockstep
from pomona.sample.store import Stored

Model = str | ChatModel


class Opener:
    """Opens each model once. What it opened is closed with the stack, what was given is not.

    Without a store nothing is kept. Models that compute here answer in rounds of `steps`.
    """

    def __init__(
        self, options: Mapping[str, Any], store: Path | None, steps: Lockstep, stack: AsyncExitStack
    ) -> None:
        self._options, self._store, self._steps, self._stack = options, store, steps, stack
        self._opened: dict[str, ChatModel] = {}

    def panel(self, models: Model | Sequence[Model]) -> list[ChatModel]:
        """One model or several, opened."""
        named = [models] if isinstance(models, str) or not isinstance(models, Sequence) else models
        return [self(each) for each in named]

    def __call__(self, model: Model) -> ChatModel:
        """A model, opened where it is a URI."""
        if not isinstance(model, str):
            return self._kept(model, ours=False)
        if model not in self._opened:
            self._opened[model] = self._kept(open_chat(model, **self._options), ours=True)
        return self._opened[model]

    def _kept(self, model: ChatModel, ours: bool) -> ChatModel:
        if self._store is None or isinstance(model, Stored):
            if ours:
                self._stack.push_async_callback(model.close)
            return model
        stored = (
            InStep(model, self._store, self._steps)
            if isinstance(model, Together)
            else Stored(model, self._store)
        )
        if ours:
            self._stack.push_async_callback(stored.close)
        else:
            self._stack.callback(stored._file.close)
        return stored
