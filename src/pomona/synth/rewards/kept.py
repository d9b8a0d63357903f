"""Numbers that were paid for, kept in a SQLite file so that none is paid for twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pomona.db import Database
from pomona.synth.teachers import Usage

_TABLE = """create table rewards (
    key blob primary key, reward text not null, value real not null, prompt_tokens integer not null,
    answer_tokens integer not null, flops real, money real, estimated integer not null)
    without rowid"""


@dataclass(frozen=True)
class Paid:
    """A number and what it cost; None is not known. `estimated` says that its tokens were guessed
    from the texts.
    """

    value: float
    prompt_tokens: int = 0
    answer_tokens: int = 0
    flops: float | None = None
    money: float | None = None
    estimated: bool = False

    @property
    def usage(self) -> Usage:
        """What it cost."""
        return Usage(
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.answer_tokens,
            flops=self.flops,
            money=self.money,
            estimated=self.estimated,
        )


class RewardStore:
    """Numbers by reward and what was judged. Without a path nothing outlives the object. Raises
    PomonaError when the file is damaged or something else.
    """

    def __init__(self, path: Path | None) -> None:
        self._held: dict[bytes, Paid] = {}
        self._file = None
        if path is not None:
            self._file = Database(
                path,
                [_TABLE],
                what="a store of rewards",
                application=b"POMV",
                version=2,
                lost="move it away; what it held is judged again",
            )

    def held(self, keys: Iterable[bytes]) -> dict[bytes, Paid]:
        """Those that are there."""
        wanted = [*dict.fromkeys(keys)]
        if self._file is not None:
            query = """select value, prompt_tokens, answer_tokens, flops, money, estimated
                from rewards where key = ?"""
            with self._file.reading() as file:
                for key in wanted:
                    if key not in self._held and (row := file.execute(query, (key,)).fetchone()):
                        self._held[key] = Paid(*row[:-1], estimated=bool(row[-1]))
        return {key: self._held[key] for key in wanted if key in self._held}

    def keep(self, reward: str, made: Mapping[bytes, Paid]) -> None:
        """Write numbers, all of them or none. What another process kept meanwhile stays."""
        self._held |= made
        if self._file is not None and made:
            rows = [
                (
                    key,
                    reward,
                    p.value,
                    p.prompt_tokens,
                    p.answer_tokens,
                    p.flops,
                    p.money,
                    int(p.estimated),
                )
                for key, p in made.items()
            ]
            insert = "insert or ignore into rewards values (?, ?, ?, ?, ?, ?, ?, ?)"
            with self._file.writing() as file:
                file.executemany(insert, rows)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


def key_of_texts(*parts: str) -> bytes:
    """The key of what was judged: lengths before the texts, so that none runs into the next."""
    text = "".join(f"{len(part)}:{part}" for part in parts)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def usage_of(paid: Sequence[Paid], fresh: int) -> Usage:
    """What numbers cost together; not known is what is not known of one."""
    nothing = Usage(fresh, flops=0.0, money=0.0, cpu_seconds=0.0)
    return sum((one.usage for one in paid), nothing)
