"""How the next token is drawn: the parameters, and what each of them may be, whoever takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

from pomona.documents import parse_json
from pomona.errors import PomonaError

_MOST_KEPT = (1 << 31) - 1
_LONGEST_SHOWN = 80


@dataclass(frozen=True)
class Bounds:
    """The numbers that a parameter may be: from `low` (with `above`: over it) to `high` (with
    `below`: under it). `idle` is the one that changes nothing, and what is then the case.
    """

    low: float
    high: float
    idle: str
    above: bool = False
    below: bool = False
    whole: bool = False

    def hold(self, value: object) -> bool:
        """Whether a value is such a number."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        over = value > self.low if self.above else value >= self.low
        return over and (value < self.high if self.below else value <= self.high)

    @property
    def wanted(self) -> str:
        """The numbers in words: "a number above 0 and up to 1"."""
        kind = "a whole number" if self.whole else "a number"
        high = f"{int(self.high):,}" if self.whole else f"{self.high:g}"
        if self.above:
            return f"{kind} above {self.low:g} and up to {high}"
        return f"{kind} from {self.low:g} to {'below ' if self.below else ''}{high}"


BOUNDS: dict[str, Bounds] = {
    "top_p": Bounds(0, 1, "1 keeps everything", above=True),
    "min_p": Bounds(0, 1, "0 keeps everything", below=True),
    "top_k": Bounds(0, _MOST_KEPT, "0 keeps everything", whole=True),
    "frequency_penalty": Bounds(-2, 2, "0 changes nothing"),
    "presence_penalty": Bounds(-2, 2, "0 changes nothing"),
    "repetition_penalty": Bounds(0, 10, "1 changes nothing", above=True),
}
BIAS = Bounds(-100, 100, "0 changes nothing")


class SamplingOptions(TypedDict, total=False):
    """The fields of `Sampling`, as functions take them by name."""

    top_p: float
    min_p: float
    top_k: int
    frequency_penalty: float
    presence_penalty: float
    repetition_penalty: float
    logit_bias: Mapping[int, float]
    stop: Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn, and what ends an answer, as the OpenAI API and vLLM have it.

    A `stop` of one text and a `logit_bias` of JSON are read as what they stand for, and -1 is
    another name for no `top_k`.

    Args:
        top_p: Draw from the smallest set of likeliest tokens that has this probability; 1 keeps
            all.
        min_p: Draw no token below this share of the likeliest one's probability; 0 keeps all.
        top_k: Draw from so many of the likeliest tokens; 0 keeps all.
        frequency_penalty: Taken from a token's logit each time that the answer has it, -2 to 2.
        presence_penalty: Taken from a token's logit once the answer has it, -2 to 2.
        repetition_penalty: Above 1, tokens of prompt and answer are less likely to come again;
            below, likelier.
        logit_bias: What is added to the logits of tokens, -100 to 100, by their ids; as JSON:
            '{"198": -100}'.
        stop: Text before which an answer ends; several times for several.

    Raises:
        PomonaError: a `logit_bias` that is no object of JSON.
    """

    top_p: float = 1.0
    min_p: float = 0.0
    top_k: int = 0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: Sequence[str] = ()

    def __post_init__(self) -> None:
        bias: Any = self.logit_bias
        if isinstance(self.stop, str):
            object.__setattr__(self, "stop", (self.stop,))
        elif type(self.stop) is list:
            object.__setattr__(self, "stop", tuple(self.stop))
        if self.top_k == -1:
            object.__setattr__(self, "top_k", 0)
        if isinstance(bias, str):
            remedy = """write '{"TOKEN_ID": BIAS}'"""
            bias = parse_json(bias.encode("utf-8", "replace"), "logit_bias", remedy=remedy)
        if bias and isinstance(bias, Mapping):
            bias = {_id(token): value for token, value in bias.items()}
        if bias is not self.logit_bias:
            object.__setattr__(self, "logit_bias", bias)

    @property
    def penalised(self) -> bool:
        """Whether tokens are made less likely by what was said before."""
        penalties = self.frequency_penalty, self.presence_penalty
        return any(penalties) or self.repetition_penalty != 1


def sampling_of(given: Sampling) -> dict[str, Any]:
    """The parameters that are not as they are by themselves."""
    values = {name: getattr(given, name) for name in Sampling.__dataclass_fields__}
    return {name: value for name, value in values.items() if value != getattr(_IDLE, name)}


def check_sampling(given: Sampling, error: Callable[..., PomonaError] = PomonaError) -> None:
    """Raise `error` for the first parameter out of its bounds."""
    for name, bounds in BOUNDS.items():
        if not bounds.hold(value := getattr(given, name)):
            remedy = f"use {bounds.wanted}; {bounds.idle}"
            raise error(f"{name} is {_shown(value)}", remedy=remedy)
    if not isinstance(given.logit_bias, Mapping):
        raise error("logit_bias is no mapping", remedy="give a bias for each token id")
    for token, bias in given.logit_bias.items():
        if type(token) is not int or token < 0:
            message = f"logit_bias names {_shown(token)}, which is no token id"
            raise error(message, remedy="use ids of the model's tokenizer, from 0")
        if not BIAS.hold(bias):
            message = f"logit_bias of token {token} is {_shown(bias)}"
            raise error(message, remedy=f"use {BIAS.wanted}; {BIAS.idle}")
    for stop in given.stop:
        if not (isinstance(stop, str) and stop):
            message = f"stop holds {_shown(stop)}" if stop else "stop holds an empty text"
            raise error(message, remedy="give texts of at least one character")


_IDLE = Sampling()


def _id(token: Any) -> Any:
    """A token id, which is text where the mapping is one of JSON."""
    plain = isinstance(token, str) and token.isascii() and token.isdigit()
    return int(token) if plain and len(token) <= len(str(_MOST_KEPT)) else token


def _shown(value: object) -> str:
    if isinstance(value, int) and abs(value) >= 10**30:
        return "a huge number"
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"
