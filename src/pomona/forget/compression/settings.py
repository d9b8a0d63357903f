"""What `compress` can be asked for: methods, the options each of them takes, and the line that says
which were used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pomona._version import __version__
from pomona.errors import PomonaError, nearest

Method = Literal[
    "magnitude",
    "random",
    "wanda",
    "int8",
    "int4",
    "low_rank",
    "Q2_K",
    "Q3_K_S",
    "Q3_K_M",
    "Q3_K_L",
    "Q4_0",
    "Q4_1",
    "Q4_K_S",
    "Q4_K_M",
    "Q5_0",
    "Q5_1",
    "Q5_K_S",
    "Q5_K_M",
    "Q6_K",
    "Q8_0",
]
DType = Literal["F32", "F16", "BF16"]
Scope = Literal["uniform", "global"]
BITS = {"int8": 8, "int4": 4}
_TAKES = {
    "magnitude": "level scope pattern embeddings dtype",
    "random": "level scope pattern embeddings dtype seed",
    "wanda": "level pattern dtype calibration test",
    "int8": "group_size embeddings dtype",
    "int4": "group_size embeddings dtype",
    "low_rank": "rank share embeddings dtype",
}
_INT4_GROUP = 128


@dataclass(frozen=True)
class Settings:
    """A method with the options it takes; what it does not take, or was not given, is None."""

    method: str
    level: float | None = None
    scope: str | None = None
    pattern: str | None = None
    embeddings: bool = False
    group_size: int | None = None
    rank: int | None = None
    share: float | None = None
    dtype: str | None = None
    seed: int | None = None
    calibration: str | None = None  # how many texts, and a hash of them

    @classmethod
    def of(cls, method: str, **given: Any) -> Settings:
        """Options as they were given. Raises PomonaError for those that the method does not take,
        lacks, or that are out of bounds.
        """
        if method not in get_args(Method):
            raise PomonaError(
                f'unknown method "{method}"',
                where="compress",
                remedy=nearest(method, get_args(Method)),
            )
        takes = _TAKES.get(method, "").split()
        for name, value in given.items():
            if value not in (None, False) and name not in takes:
                remedy = f"it takes {', '.join(takes)}" if takes else "it takes no options"
                raise PomonaError(f"{name} is nothing to {method}", where="compress", remedy=remedy)
        given.pop("test", None)
        settings = cls(
            method, **{**given, "seed": (given.get("seed") or 0) if "seed" in takes else None}
        )
        for message, found in settings._wrong().items():
            if found:
                raise PomonaError(message, where="compress", remedy=_REMEDY[method])
        if settings.prunes and settings.pattern is None and "scope" in takes:
            return cls(**{**vars(settings), "scope": settings.scope or "uniform"})
        if method == "int4":
            return cls(**{**vars(settings), "group_size": settings.group_size or _INT4_GROUP})
        return settings

    def _wrong(self) -> dict[str, bool]:
        level, rank, share, pattern = self.level, self.rank, self.share, self.pattern
        split = re.fullmatch(r"([0-9]{1,3}):([0-9]{1,3})", pattern or "1:2")
        return {
            "give either a level or a pattern": self.prunes
            and (level is None) == (pattern is None),
            f"level is {level}": level is not None and not 0 < level < 1,
            f"pattern is {pattern}": split is None or not 0 < int(split[1]) < int(split[2]),
            f"scope is {self.scope}, with a pattern": pattern is not None
            and self.scope is not None,
            f"scope is {self.scope}": self.scope not in (None, *get_args(Scope)),
            f"dtype is {self.dtype}, and must be F32, F16 or BF16": self.dtype
            not in (None, *get_args(DType)),
            "give either a rank or a share": self.method == "low_rank"
            and (rank is None) == (share is None),
            f"rank is {rank}": rank is not None and rank < 1,
            f"share is {share}": share is not None and not 0 < share < 1,
            f"group_size is {self.group_size}": self.group_size is not None and self.group_size < 1,
            "calibration is missing": self.method == "wanda" and self.calibration is None,
        }

    @property
    def prunes(self) -> bool:
        """Whether weights are set to zero."""
        return self.method in ("magnitude", "random", "wanda")

    @property
    def gguf(self) -> bool:
        """Whether the result is a GGUF file."""
        return self.method not in _TAKES

    @property
    def blocks(self) -> tuple[int, int] | None:
        """Weights kept and weights of a block, of a pattern."""
        if self.pattern is None:
            return None
        kept, block = self.pattern.split(":")
        return int(kept), int(block)

    def document(self) -> dict[str, Any]:
        """What was asked for, by name; what does not apply is left out."""
        asked = {name: value for name, value in vars(self).items() if value is not None}
        if self.gguf:
            asked.pop("embeddings")
        return asked

    def signature(self, model: str) -> str:
        """One line that says how the result is made; `model` is the fingerprint of the input."""
        said = self.document()
        if "embeddings" in said:
            said["embeddings"] = "changed" if said["embeddings"] else "kept"
        if self.method in BITS:
            said["group_size"] = self.group_size or "row"
            said["grid"] = "symmetric" if self.method == "int8" else "asymmetric"
        parts = [f"{name}:{value}" for name, value in said.items()]
        return "|".join(["compress", *parts, f"model:{model}", f"version:{__version__}"])


_LEVEL = 'give level, the share of weights set to zero such as 0.5, or a pattern such as "2:4"'
_GROUP = "give a group_size of at least 1, such as 32, or leave it out"
_REMEDY = {
    "magnitude": f"{_LEVEL}; scope, uniform or global, goes with a level",
    "random": f"{_LEVEL}; scope, uniform or global, goes with a level",
    "wanda": f"{_LEVEL}; and calibration, a table with texts",
    "int8": _GROUP,
    "int4": _GROUP,
    "low_rank": "give a rank of at least 1, or a share of the parameters between 0 and 1",
}
