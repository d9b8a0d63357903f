"""Steps and what they are made from.

A step is a pure function of its parameters, its inputs, the code it runs and the seed; their hash
is its key, and names its folder. So a killed run continues where it was, and a changed recipe
redoes only what changed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from pomona.files import sha256_of
from pomona.models import Request, prompt_tokens
from pomona.recipe.code import code_key
from pomona.recipe.steps import Cost, Served, StepContext
from pomona.workspace import FileStamp, refuse_changed, stamp

Work = Callable[[StepContext], Cost]
Tokens = tuple[float | None, float | None]  # of prompts, of answers; None where nobody knows


def answering(
    items: float, samples: int, more: tuple[int, int] = (0, 0)
) -> Callable[[Request], Tokens]:
    """Of answers of full length to so many items like a typical one, each prompt read once; both
    with so many `more` tokens.
    """
    return lambda typical: (
        (prompt_tokens(typical) + more[0]) * items,
        (typical.max_tokens + more[1]) * items * samples,
    )


@dataclass(frozen=True)
class Estimate:
    """What a step will need: `kind` chooses the rate at which this machine works through `flops`,
    None where nobody knows them; `disk` is bytes left behind, `asked` how many answers servers
    give, `money` the most that these cost, None where nobody knows. `tokens` tells, from a typical
    request, how many models read and how many they answer at most; training is none of these.
    """

    kind: str = "table"
    flops: float | None = 0.0
    disk: float = 0.0
    asked: float = 0.0
    money: float | None = 0.0
    tokens: Callable[[Request], Tokens] = lambda _: (0.0, 0.0)


@dataclass(frozen=True, eq=False)
class RunInput:
    """Something that is there before the run: a checkpoint folder or a data file."""

    name: str
    path: Path

    @cached_property
    def _stamp(self) -> tuple[FileStamp, ...]:
        return tuple(stamp([self.path]))

    @cached_property
    def key(self) -> str:
        """Hash of the content."""
        return _content_key(self.path, self._stamp)

    def refuse_changed(self) -> None:
        """Raise PomonaError when it is no longer what `key` was made from."""
        refuse_changed(self._stamp, tuple(stamp([self.path])), self.path)


@dataclass(frozen=True, eq=False)
class Step:
    """One piece of work. `work` stands in a module that imports what it runs and nothing else, so
    that all of that code is in the key, and planning is not.

    billed: inputs whose cost is in this step's own, as far as it used them: of what a teacher wrote
        for all policies, each pays for what it asked.
    """

    name: str
    work: Work
    params: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Node] = field(default_factory=dict)
    estimate: Estimate = field(default_factory=Estimate)
    billed: frozenset[str] = frozenset()

    @cached_property
    def key(self) -> str:
        """Hash of everything the result depends on."""
        # No path and no device: a run that is moved, or goes on elsewhere, keeps what is done.
        parts = [
            self.work.__module__,
            self.work.__qualname__,
            dict(self.params),
            {n: i.key for n, i in self.inputs.items()},
            code_key(self.work.__module__),
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def folder(self) -> str:
        """Name of the result's folder: readable, and unique by the key."""
        return "".join(c if c.isalnum() or c in "-_.@" else "-" for c in self.name) + "-" + self.key


STEP_FOLDER = re.compile(r"[\w.@-]+-[0-9a-f]{16}")  # what `Step.folder` can be

Node = Step | RunInput | Served


@cache
def _content_key(path: Path, _: tuple[FileStamp, ...]) -> str:
    return sha256_of(path)[:16]


def ancestors(steps: Iterable[Node], *, paid: bool = False) -> Iterator[Step]:
    """The steps and everything they need, each once, inputs first; or what they are `paid` with,
    which leaves out what is billed.
    """
    seen: set[int] = set()

    def visit(node: Node) -> Iterator[Step]:
        if id(node) in seen or not isinstance(node, Step):
            return
        seen.add(id(node))
        for name, other in node.inputs.items():
            if not (paid and name in node.billed):
                yield from visit(other)
        yield node

    for step in steps:
        yield from visit(step)


@dataclass(frozen=True)
class RunFolder:
    """The folders of a run: `steps` holds results, `scratch` what a killed step can continue
    from.
    """

    root: Path

    @property
    def steps(self) -> Path:
        """Where results of steps lie."""
        return self.root / "steps"

    def result(self, node: Step | RunInput) -> Path:
        """Where the result of a step is, or will be."""
        return node.path if isinstance(node, RunInput) else self.steps / node.folder

    def scratch(self, step: Step) -> Path:
        """Where a step keeps what a kill must not lose."""
        return self.root / "work" / step.folder

    def done(self, step: Step) -> bool:
        """Whether a step has its result."""
        return self.result(step).is_dir()
