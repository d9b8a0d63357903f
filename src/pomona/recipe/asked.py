"""The models that a recipe names: what stands behind a name, how it is asked, what it can do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pomona.documents import StrictModel, read_json
from pomona.models import HAVE, Ability, ModelError
from pomona.recipe.fields import Positive, Rate, Text

# (where in a lever's part, the model, what it must be able to)
Needs = Iterator[tuple[tuple[str | int, ...], str, Ability]]
OF_TORCH: frozenset[Ability] = frozenset({"score", "states", "train"})
_DOES: dict[Ability, str] = {
    "score": "score given text",
    "states": "show the states of its network",
    "train": "be trained",
}
Price = Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2, max_length=2)]


class AskedModel(StrictModel):
    """A model and how it is asked. A key for its server comes from the environment,
    POMONA_API_KEY_HOST or POMONA_API_KEY.
    """

    uri: Text | None = None
    """Its URI; the name itself when left out."""
    parameters: Positive | None = None
    """How many weights it has, where no file here tells."""
    price: Price | None = None
    """Money for a million prompt tokens and for a million answer tokens: [0.15, 0.60]."""
    concurrency: Positive = 8
    """Items under way at once."""
    requests_per_minute: Positive | None = None
    """At most so many requests a minute."""
    tokens_per_minute: Positive | None = None
    """At most so many tokens a minute, prompts and answers."""
    timeout: Rate = 120.0
    """Seconds without a sign of life from its server."""
    wait_for_server: Rate | None = None
    """Seconds to wait for a server that takes no connections, such as one that is starting; about
    ten when left out, and none when the run begins.
    """
    tokenizer: Text | None = None
    """Folder or tokenizer.json to count a server's tokens with."""
    context: Positive | None = None
    """For GGUF, the most tokens of a prompt with its answer."""

    def settings(self) -> dict[str, Any]:
        """What a step is told of it."""
        return self.model_dump(exclude={"uri", "parameters", "wait_for_server"})


class AskingBudget(StrictModel):
    """Limits of what all answers of servers cost: where one is met, the run ends with what is
    finished kept, and goes on when the limit is raised.
    """

    money: Rate | None = None
    """Money, by the prices under `models`."""
    tokens: Positive | None = None
    """Tokens of prompts and answers."""

    @property
    def limits(self) -> dict[str, float]:
        """Those that are set, by name."""
        return {name: limit for name, limit in self.model_dump().items() if limit is not None}


def is_served(uri: str) -> bool:
    """Whether a server answers for this model."""
    return uri.startswith(("http://", "https://"))


def is_gguf(uri: str) -> bool:
    """Whether llama.cpp answers for this model, unless torch is needed."""
    return uri.startswith("gguf:") or uri == "smollm2"


def lacking(what: str, uri: str, ability: Ability) -> str:
    """What to say of what asks for something that this model cannot do; empty where it can."""
    if not is_served(uri) or ability not in OF_TORCH:
        return ""
    does = f'{what} needs a model that can {_DOES[ability]} ("{ability}")'
    return f'{does}, and a server does not let "{uri}" do that: {HAVE[ability]}'


class Says(Mapping[str, str]):
    """What servers tell of their models, by URI: asked once, and kept in a run's `models.json`, so
    that a run goes on with the same names of its steps where a server is gone for a while.
    """

    def __init__(
        self, file: Path, *, insist: bool, waits: Mapping[str, float] | None = None
    ) -> None:
        """`insist`: raise PomonaError for a server that neither answers nor has before, after the
        seconds that `waits` says of its URI.
        """
        self._insist, self._waits = insist, (waits or {}) if insist else {}
        known = read_json(file, remedy="delete it") if file.is_file() else {}
        self._known = {str(uri): str(said) for uri, said in known.items()}
        self._asked: dict[str, str] = {}

    def __getitem__(self, uri: str) -> str:
        if uri not in self._asked:
            try:
                self._asked[uri] = _told(uri, self._waits.get(uri))
            except ModelError:
                if self._insist and uri not in self._known:
                    raise
                self._asked[uri] = self._known.get(uri, "")
        return self._asked[uri]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known | self._asked)

    def __len__(self) -> int:
        return len(self._known | self._asked)


def _told(uri: str, wait: float | None) -> str:
    """A hash of what a server tells of its model; empty where that is nothing."""
    from pomona.models import require, wait_for

    require("httpx", extra="serve")
    from pomona.models.http import HttpModel

    async def ask() -> dict[str, Any]:
        model = HttpModel(uri, timeout=10.0, wait_for_server=wait)
        try:
            return await model.says()
        finally:
            await model.close()

    said = wait_for(ask())
    text = json.dumps(said, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16] if said else ""
