"""What a context lever is: it changes what the model sees, and may look at each answer
afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from pomona.models import Model, Reply, Request
from pomona.sample.selection.choice import Choice, SelectionContext


@runtime_checkable
class Payer(Protocol):
    """A model paid from an account, as levers get it."""

    def also(self, model: Model) -> Model:
        """Another model that is paid from the same account."""
        ...


@runtime_checkable
class Context(Protocol):
    """One lever. `name` is its key in the notes of an answer. Of several, `before` goes in order
    and `after` in reverse.
    """

    @property
    def name(self) -> str:
        """Its key in the notes of an answer."""
        ...

    async def before(self, request: Request, model: Model) -> tuple[Request, Mapping[str, Any]]:
        """The request the model shall see, and notes on it that JSON can hold."""
        ...

    async def after(
        self, request: Request, reply: Reply, model: Model, notes: Mapping[str, Any]
    ) -> tuple[Reply, Mapping[str, Any]]:
        """The reply as it shall count, and the notes on it. `request` is what the model saw,
        `notes` are what `before` gave.

        Called for every candidate. What this spends itself is added to `reply.spent`.
        """
        ...


@runtime_checkable
class Around(Context, Protocol):
    """A context that changes what every request to the models says, those of judges and for further
    evidence among them, while whoever chooses sees neither that nor what it takes off answers.
    """

    def around(self, model: Model) -> Model:
        """The model as everybody shall see it."""
        ...

    @property
    def identity(self) -> str:
        """Equal identities change the same."""
        ...


@runtime_checkable
class Chooser(Context, Protocol):
    """A context that chooses in place of the strategy, which then only says how answers are
    drawn.
    """

    async def choose(
        self, selection: SelectionContext, pool: Sequence[Reply], notes: Mapping[str, Any]
    ) -> Choice | None:
        """A choice among the pool and what it adds to it (`Choice.candidates`); None leaves the
        choice to the strategy. `notes` are what `before` gave.
        """
        ...
