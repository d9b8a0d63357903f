"""Strategies: how many answers are drawn, how, and which one is taken. Each has a short name, such
as `hedged5-mbr`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from decimal import Decimal
from typing import Any, Literal, get_args

import numpy as np

from pomona.errors import PomonaError, nearest, quantity
from pomona.models import BOUNDS, Request
from pomona.tasks import EXTRACTORS, extractor

Pool = Literal["greedy", "sample", "hedged", "ladder"]
Select = Literal["first", "random", "best", "vote", "mbr", "xmbr", "chops"]
Utility = Literal["chrf", "bleu", "embedding", "judge"]
MOST = 256
TEMPERATURE = 0.8
REWARDS = ("mean", "sum")
KEPT = ("kept", "within")
NAMED: tuple[str, ...] = (
    "greedy",
    "sample",
    "hedged5-mbr",
    "hedged5-best",
    "hedged5-chops",
    "hedged5-xmbr",
    "ladder5-mbr",
    "sample16-vote",
    "hedged16-vote-stop0.6",
    "hedged5-mbr-bleu",
    "hedged5-mbr-minp0.05",
    "hedged5-random",
)

_SIZES: dict[str, int] = {"greedy": 1, "sample": 1, "hedged": 5, "ladder": 5}
_CLOSED: dict[str, tuple[str, ...]] = {
    "pool": get_args(Pool),
    "select": get_args(Select),
    "utility": get_args(Utility),
}
_RANGES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "n": (lambda x: 1 <= x <= MOST, f"a whole number from 1 to {MOST}"),
    "temperature": (lambda x: 0 < x <= 5, "a number above 0 and up to 5"),
    **{name: (bounds.hold, bounds.wanted) for name, bounds in BOUNDS.items()},
    "stop": (lambda x: 0 < x <= 1, "a share above 0 and up to 1"),
    "round": (lambda x: 1 <= x <= MOST, f"a whole number from 1 to {MOST}"),
    "evidence": (lambda x: 1 <= x <= MOST, f"a whole number from 1 to {MOST}"),
    "items": (lambda x: 4 <= x <= 8, "a whole number from 4 to 8"),
}
_WHOLE = ("n", "round", "evidence", "items", "top_k")
_NUMBERED = {"t": "temperature", "topp": "top_p", "minp": "min_p", "topk": "top_k"}
_NUMBERED |= {"freqpen": "frequency_penalty", "prespen": "presence_penalty"}
_NUMBERED |= {"reppen": "repetition_penalty"}
_NUMBERED |= {name: name for name in ("stop", "round", "evidence", "items")}
_OWNER = {
    "utility": ("mbr", "xmbr"),
    "reward": ("best",),
    "extract": ("vote",),
    "evidence": ("xmbr",),
    "language": ("xmbr",),
    "items": ("chops",),
}
_WORDS = {
    **{word: ("select", word) for word in get_args(Select)},
    **{word: ("utility", word) for word in get_args(Utility)},
    **{word: ("reward", word) for word in (*REWARDS, *KEPT)},
    **{word: ("extract", word) for word in EXTRACTORS},
}


@dataclass(frozen=True)
class Strategy:
    """A pool of `n` answers and the choice of one.

    pool: "greedy"; "sample", n at one temperature; "hedged", one greedy and n − 1 at one
        temperature (Khairi et al. 2025, §4); "ladder", n temperatures in equal steps from 0 to
        `temperature`.
    select: "first" or "random" as controls; "best", the highest reward; "vote", the most frequent
        extracted answer; "mbr", the answer closest to all; "xmbr", closest to all and to `evidence`
        answers in another `language`; "chops", a judge with a checklist.
    temperature, top_p, min_p, top_k, penalties: None takes the request's, and temperature 0.8 where
        that asks for 0.
    utility: of mbr and xmbr. reward: of best, "mean" or "sum" of log-probabilities, "kept", the
        share of the markers that were given to which an answer keeps, or "within", the same with
        lengths as maxima; `module:function`, or the URL of a reward model.
    extract: of vote, "answer", "number", "boxed", "text", `regex:PATTERN` or `module:function`.
    stop: draw `round` answers at a time, and no more once so large a share agrees, or with a reward
        other than of log-probabilities once an answer has so high a one. items: of the checklist.
    A PomonaError when a value is out of range, or does not belong to the selection.
    """

    pool: Pool = "greedy"
    n: int = 1
    select: Select = "first"
    temperature: float | None = None
    top_p: float | None = None
    min_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    utility: Utility = "chrf"
    reward: str = "mean"
    extract: str = "answer"
    evidence: int = 3
    language: str = "English"
    items: int = 6
    stop: float | None = None
    round: int = 4

    def __post_init__(self) -> None:
        for name, known in _CLOSED.items():
            if (value := getattr(self, name)) not in known:
                raise _wrong(f'{name} is "{value}"', nearest(str(value), known))
        for name, (holds, wanted) in _RANGES.items():
            value, kind = getattr(self, name), int if name in _WHOLE else int | float
            number = isinstance(value, kind) and not isinstance(value, bool)
            if not (number and holds(value)) and (value, _DEFAULTS[name]) != (None, None):
                raise _wrong(f"{name} is {value}", f"use {wanted}")
        for name, owners in _OWNER.items():
            if getattr(self, name) != _DEFAULTS[name] and self.select not in owners:
                remedy = f"use it with {' or '.join(owners)}, or leave it out"
                raise _wrong(f"{name} does not belong to {self.select}", remedy)
        for name in ("reward", "extract", "language"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name).strip():
                raise _wrong(f"{name} is {getattr(self, name)!r}", "give text")
        self._check_outside()
        if self.pool == "greedy" and self.n != 1:
            raise _wrong(f"greedy has one answer, not {self.n}", f"try hedged{self.n}")
        if self.stop is not None and self.n < 3 and not self.checked:
            remedy = "draw at least 3, or leave stop out"
            raise _wrong(f"{self.n} answers cannot stop early", remedy)

    @property
    def name(self) -> str:
        """The short name with all parts that differ from the defaults; `parse_strategy` reads it
        back. See also `signature`.
        """
        size = str(self.n) if self.n != 1 or self.pool in {"hedged", "ladder"} else ""
        parts = [self.pool + size]
        if self.n > 1 or self.select != "first":
            parts.append(self.select)
        own = {name: one for name, one in asdict(self).items() if one != _DEFAULTS[name]}
        words = {"utility", "reward", "extract"} - {*self.outside}
        parts += [one for name, one in own.items() if name in words]
        for word, name in _NUMBERED.items():
            if name in own:
                parts.append(word + format(Decimal(repr(own[name])), "f"))
        return "-".join(parts)

    @property
    def checked(self) -> bool:
        """Whether each answer has a reward of its own, whatever the others are."""
        return self.select == "best" and self.reward not in REWARDS

    @property
    def sampling(self) -> dict[str, Any]:
        """The parameters of its own, which the request's give way to."""
        return {name: value for name in BOUNDS if (value := getattr(self, name)) is not None}

    @property
    def signature(self) -> str:
        """The name and what has no place in it: a reward, an extractor or a language of one's
        own.
        """
        own = (f"|{name}:{getattr(self, name)}" for name in self.outside)
        return self.name + "".join(own)

    @property
    def outside(self) -> tuple[str, ...]:
        """Which of reward, extract and language are one's own and so not part of the name."""
        known = {
            "reward": (*REWARDS, *KEPT),
            "extract": EXTRACTORS,
            "language": (_DEFAULTS["language"],),
        }
        return tuple(name for name in known if getattr(self, name) not in known[name])

    def _check_outside(self) -> None:
        for what, value, known, custom in (
            ("reward", self.reward, (*REWARDS, *KEPT), "MODULE:FUNCTION, http://HOST/PATH"),
            ("extractor", self.extract, EXTRACTORS, "regex:PATTERN, MODULE:FUNCTION"),
        ):
            if value not in known and ":" not in value:
                remedy = f"known: {', '.join(known)}, {custom}"
                raise _wrong(f'there is no {what} "{value}"', remedy)
        if self.extract.startswith("regex:"):
            try:
                extractor(self.extract)
            except PomonaError as error:
                raise _wrong(error.message, error.remedy or "") from None


_DEFAULTS: dict[str, Any] = {entry.name: entry.default for entry in fields(Strategy)}


def parse_strategy(given: str | Mapping[str, Any], *, trusted: bool = False) -> Strategy:
    """A strategy from its name, or from a mapping of its fields; a mapping's `name` is read first
    and its other keys override it.

    Names are parts joined by "-": a pool with its size (`greedy`, `sample16`, `hedged5`,
    `ladder5`), a selection (mbr where none is given), a utility, reward or extractor, and numbers
    (`t0.7`, `topp0.9`, `minp0.05`, `topk20`, `freqpen0.5`, `prespen-0.5`, `reppen1.1`, `stop0.8`,
    `round4`, `evidence3`, `items6`). Code, patterns and
    addresses (`module:function`, `regex:…`, `http://…`) are taken only when the giver is `trusted`.
    A PomonaError names what is unknown or out of range, and what is known.
    """
    if not isinstance(given, str | Mapping):
        raise _wrong(f"is {given!r}", "give a name such as hedged5-mbr, or a mapping")
    strategy = _built(_parts(given), given) if isinstance(given, str) else _from_mapping(given)
    if not trusted and (own := [name for name in strategy.outside if name != "language"]):
        message = f'{own[0]} "{getattr(strategy, own[0])}" is code, a pattern or an address'
        raise _wrong(message, "name one of the built-in ones")
    return strategy


def _parts(name: str) -> dict[str, Any]:
    first, *rest = re.split(r"-(?![\d.])", name.strip().lower())  # a minus is no joint
    pool = re.fullmatch(r"([a-z]+)(\d{0,4})", first, re.ASCII)
    if pool is None or pool[1] not in _SIZES:
        remedy = f"known: {', '.join(NAMED)}, and others made of such parts"
        raise PomonaError(f'there is no strategy "{name}"', remedy=remedy)
    values: dict[str, Any] = {"pool": pool[1], "n": int(pool[2] or _SIZES[pool[1]])}
    for part in rest:
        key, value = _part(part, name)
        if key in values:
            message = f'"{part}" is the second {key} in "{name}"'
            raise PomonaError(message, remedy="give each part once")
        values[key] = value
    return values


def _part(part: str, name: str) -> tuple[str, Any]:
    if part in _WORDS:
        return _WORDS[part]
    number = re.fullmatch(r"([a-z]+)(-?(?:\d{1,9}(?:\.\d{1,9})?|\.\d{1,9}))", part, re.ASCII)
    if number is None or number[1] not in _NUMBERED:
        remedy = nearest(part, [*_WORDS, *(f"{word}NUMBER" for word in _NUMBERED)])
        where = f'strategy "{name}"'
        raise PomonaError(f'there is no part "{part}"', where=where, remedy=remedy)
    key = _NUMBERED[number[1]]
    return key, int(number[2]) if key in _WHOLE and number[2].isdigit() else float(number[2])


def _from_mapping(given: Mapping[str, Any]) -> Strategy:
    for key in given:
        if key not in _DEFAULTS and key != "name":
            remedy = nearest(str(key), [*_DEFAULTS, "name"])
            raise _wrong(f'there is no setting "{key}"', remedy)
    name = given.get("name", "")
    if not isinstance(name, str):
        raise _wrong(f"name is {name!r}", "give text such as hedged5-mbr")
    values = (_parts(name) if name else {}) | dict(given)
    values.pop("name", None)
    if isinstance(pool := values.get("pool"), str) and "n" not in values and pool in _SIZES:
        values["n"] = _SIZES[pool]
    return _built(values, name or "given as a mapping")


def _built(values: dict[str, Any], where: str) -> Strategy:
    if "select" not in values:
        values["select"] = "mbr" if values.get("n", 1) != 1 else "first"
    try:
        return replace(Strategy(), **values)
    except PomonaError as error:
        raise PomonaError(error.message, where=f'strategy "{where}"', remedy=error.remedy) from None


def as_mapping(strategy: Strategy) -> dict[str, Any]:
    """The fields that differ from the defaults, as `parse_strategy` reads them."""
    kept, values = {"pool", "n", "select"}, asdict(strategy)
    return {
        name: values[name] for name in values if values[name] != _DEFAULTS[name] or name in kept
    }


def _wrong(message: str, remedy: str) -> PomonaError:
    return PomonaError(message, where="strategy", remedy=remedy)


def hedged(n: int, temperature: float) -> list[float]:
    """Temperatures of a hedged pool: one greedy answer and n − 1 at one temperature. Khairi et al.
    2025 (arXiv 2506.20544), §4.
    """
    return [0.0] + [temperature] * (n - 1)


def ladder(n: int, temperature: float) -> list[float]:
    """`n` temperatures in equal steps from 0 (greedy) to `temperature`."""
    return [round(float(value), 6) for value in np.linspace(0.0, temperature, n)]


def temperatures(strategy: Strategy, request: Request, models: int = 1) -> list[float]:
    """The temperature of each answer, `[n]`; the answers are dealt to the models in turn, and in a
    hedged pool each gives a greedy one.

    A PomonaError when there are more models than answers.
    """
    n = strategy.n
    if models > n:
        message, where = (
            f"{quantity(models, 'model')} for {quantity(n, 'answer')}",
            f'strategy "{strategy.name}"',
        )
        raise PomonaError(message, where=where, remedy=f"draw at least {models}")
    top = strategy.temperature or request.temperature or TEMPERATURE
    if strategy.pool == "greedy":
        return [0.0]
    if strategy.pool == "sample":
        return [top] * n
    if strategy.pool == "ladder":
        return ladder(n, top)
    return [0.0] * models + [top] * (n - models)
