"""What `pomona sample` asks, chooses, measures, spends and calls: its options in groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from pomona.cli._options import Flag


@Parameter(name="*", group="What is asked")
@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a row becomes a request."""

    prompt: str | None = None
    """Template with {COLUMN} in it; {prompt} when left out and there is no column messages."""
    messages: str | None = None
    """Column of messages, instead of a prompt."""
    system: str | None = None
    """System message put before."""
    raw: Flag = False
    """Send the prompt as it is, without a chat template."""
    max_tokens: int = 512
    """Most tokens of an answer."""


@Parameter(name="*", group="Details of the strategy")
@dataclass(frozen=True, kw_only=True)
class Choosing:
    """What a strategy takes that its name does not say."""

    reward: str | None = None
    """best: mean, sum, MODULE:FUNCTION or http://HOST/PATH."""
    extract: str | None = None
    """vote: answer, number, boxed, text, regex:PATTERN or MODULE:FUNCTION."""
    language: str | None = None
    """xmbr: language of the further evidence."""


@Parameter(name="*", group="What pools are measured against")
@dataclass(frozen=True, kw_only=True)
class Measuring:
    """What the pool holds, and what the choice makes of it."""

    reference: str | None = None
    """Column of references."""
    group: str | None = None
    """Column by which pools are shown."""
    metric: str = "chrf"
    """chrf, chrf++ or exact_match."""


@Parameter(name="*", group="Hard limits, of all rows together")
@dataclass(frozen=True, kw_only=True)
class Limits:
    """Where the work ends, with everything kept that was paid for."""

    budget_tokens: int | None = None
    """Prompt and answer tokens."""
    budget_flops: float | None = None
    """Floating-point operations."""
    budget_money: float | None = None
    """Money; needs --price."""
    budget_seconds: float | None = None
    """Time."""


@Parameter(name="*", group="How models are called")
@dataclass(frozen=True, kw_only=True)
class Calling:
    """What opening a model takes."""

    price: Annotated[str | None, Parameter(allow_leading_hyphen=False)] = None
    """Money for a million prompt tokens and a million answer tokens, such as 0.15,0.60."""
    tokenizer: str | None = None
    """Folder or tokenizer.json to count a server's tokens with."""
    threads: int = 1
    """Processor threads of models in this process."""
    timeout: float = 120.0
    """Seconds without a sign of life from a server."""
