"""Measures that models make: how likely an answer is to a scoring model, and how far two models'
own distributions are apart over what they answered.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from pomona.arena.prioritizing.pairs import Floats, Pairs
from pomona.db import Database
from pomona.documents import parse_json
from pomona.errors import PomonaError
from pomona.models import Model, Request, Spent, load

Progress = Callable[[int, int], None]
_TABLE = "create table scores (key blob primary key, value text not null) without rowid"
_AT_ONCE = 32  # answers between two writes to the store
_ROWS = 256  # positions whose distributions are there at once


class ScoreStore:
    """Scores that were made already, so that a killed run goes on; in memory without a path."""

    def __init__(self, path: str | Path | None) -> None:
        self._held = dict[bytes, list[float | None]]()
        self._file: Database | None = None
        if path is not None:
            self._file = Database(
                path,
                [_TABLE],
                what="a store of scores",
                application=b"POMP",
                lost="move it away; what it held must be scored again",
            )

    def get(self, key: bytes) -> list[float | None] | None:
        """What is known under a key."""
        if not self._file:
            return self._held.get(key)
        with self._file.reading() as file:
            row = file.execute("select value from scores where key = ?", (key,)).fetchone()
        if row is None:
            return None
        try:
            found = parse_json(row[0].encode(), self._file.path, top=list)
        except (PomonaError, AttributeError) as error:
            raise self._file.damaged(error) from error
        return [None if value is None else float(value) for value in found]

    def put(self, found: Mapping[bytes, Sequence[float | None]]) -> None:
        """Keep them, all or none."""
        if not self._file:
            self._held |= {key: list(value) for key, value in found.items()}
            return
        rows = [(key, json.dumps(list(value))) for key, value in found.items()]
        with self._file.writing() as file:
            file.executemany("insert or ignore into scores values (?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        if self._file:
            self._file.close()


def systems_of(named: Sequence[str], models: Sequence[str]) -> dict[str, str]:
    """NAME=URI, or a name alone that is its own URI, as a mapping.

    Raises:
        PomonaError: a name is no model of the pairs, or stands twice.
    """
    found: dict[str, str] = {}
    for one in named:
        name, _, uri = one.partition("=")
        if name in found:
            raise PomonaError(f'"{name}" stands twice', where="system", remedy="name it once")
        if name not in models:
            message, remedy = (
                f'"{name}" has no answer in the pairs',
                "write NAME=URI of one that has",
            )
            raise PomonaError(message, where="system", remedy=remedy)
        found[name] = uri or name
    if len(found) == 1:
        message, remedy = "two models are compared, and one is named", "name another one"
        raise PomonaError(message, where="system", remedy=remedy)
    return found


def forecast(pairs: Pairs, scorer: str | None, systems: Mapping[str, str]) -> Spent:
    """What scoring costs at most, as tokens and FLOPs: none of it is taken from a store."""
    total = Spent(estimated=True)
    work: list[tuple[str, list[tuple[str, str]]]] = []
    if scorer is not None:
        work.append((scorer, _answered(pairs, range(len(pairs.answers)))))
    for (a, b), rows in _by_systems(pairs, systems).items():
        asked = np.concatenate([pairs.first[rows], pairs.second[rows]])
        work += [(systems[name], _answered(pairs, asked)) for name in (a, b)]
    for uri, answered in work:
        model = load(uri)
        for prompt, answer in answered:
            counts = [model.tokens(Request(prompt=text)) for text in (prompt, answer)]
            total += model.cost(*counts)
    return total


def _answered(pairs: Pairs, answers: Any) -> list[tuple[str, str]]:
    return [
        (pairs.prompts[pairs.answer_prompt[one]], pairs.answers[one]) for one in map(int, answers)
    ]


def likelihoods(
    pairs: Pairs,
    scorer: str | None,
    systems: Mapping[str, str],
    store: ScoreStore,
    progress: Progress | None = None,
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Measures of pairs and of single answers by these models; not a number where none is known,
    as for an empty answer, or KL where two models' tokens differ.
    """
    values: dict[str, Floats] = {}
    answers: dict[str, Floats] = {}
    if scorer is not None:
        answers["cross_entropy"] = bits = _scored(pairs, scorer, store, progress)
        values["cross_entropy"] = (bits[pairs.first] + bits[pairs.second]) / 2
        values["cross_entropy_gap"] = np.abs(bits[pairs.first] - bits[pairs.second])
    if systems:
        values |= _between(pairs, systems, store, progress)
    return values, answers


def _scored(pairs: Pairs, uri: str, store: ScoreStore, progress: Progress | None) -> Floats:
    """Bits a byte of each answer [m] after its prompt."""
    model = load(uri, need=["score"])
    probe = _Probe(model)
    with closing(probe):
        asked = _answered(pairs, range(len(pairs.answers)))
        keys = [_key("bits", model.identity, *one) for one in asked]
        found = {key: store.get(key) for key in keys}
        missing = [at for at, key in enumerate(keys) if found[key] is None]
        # The shortest first, so that what is scored together is of like length.
        missing.sort(key=lambda at: len(asked[at][1]))
        for start in range(0, len(missing), _AT_ONCE):
            part = missing[start : start + _AT_ONCE]
            fresh = {
                keys[at]: [bits]
                for at, bits in zip(part, probe.bits([asked[at] for at in part]), strict=True)
            }
            store.put(fresh)
            found |= fresh
            if progress is not None:
                progress(min(start + _AT_ONCE, len(missing)), len(missing))
    return np.array([_number((found[key] or [None])[0]) for key in keys])


def _between(
    pairs: Pairs, systems: Mapping[str, str], store: ScoreStore, progress: Progress | None
) -> dict[str, Floats]:
    names = ("kl_ab", "kl_ba", "cross_ab", "cross_ba")
    found = {name: np.full(len(pairs), np.nan) for name in names}
    work = _by_systems(pairs, systems)
    total, done = sum(map(len, work.values())), 0
    probes: dict[str, _Probe] = {}
    try:
        for (a, b), rows in work.items():
            for name in (a, b):
                if name not in probes:
                    probes[name] = _Probe(load(systems[name], need=["score"]))
            for start in range(0, len(rows), _AT_ONCE):
                part = rows[start : start + _AT_ONCE]
                for side, own, other in (("first", a, b), ("second", b, a)):
                    told = _compared(pairs, part, side, probes[own], probes[other], store)
                    # A pair may stand the other way round than its models' names.
                    turned = [pairs.models[pairs.a[row]] != a for row in part]
                    for row, (kl, cross), back in zip(part, told, turned, strict=True):
                        way = "ab" if (side == "first") != back else "ba"
                        found[f"kl_{way}"][row], found[f"cross_{way}"][row] = kl, cross
                done += len(part)
                if progress is not None:
                    progress(done, total)
    finally:
        for probe in probes.values():
            probe.close()
    for name in ("kl", "cross"):
        found[name] = (found[f"{name}_ab"] + found[f"{name}_ba"]) / 2
    return found


def _by_systems(pairs: Pairs, systems: Mapping[str, str]) -> dict[tuple[str, str], list[int]]:
    """The rows of each two models that are both named."""
    found: dict[tuple[str, str], list[int]] = {}
    for row, (a, b) in enumerate(zip(pairs.a, pairs.b, strict=True)):
        names = sorted((pairs.models[a], pairs.models[b]))
        if set(names) <= systems.keys():
            found.setdefault((names[0], names[1]), []).append(row)
    return found


def _compared(
    pairs: Pairs, rows: Sequence[int], side: str, own: _Probe, other: _Probe, store: ScoreStore
) -> list[tuple[float, float]]:
    """KL of the other model from the one whose answer it is, nats a token over that answer, and the
    answer's bits a byte by the other; of each row, of the answer of `own`.
    """
    answers = []
    for row in rows:
        # `first` is the answer of the model that comes first by name.
        straight = pairs.models[pairs.a[row]] < pairs.models[pairs.b[row]]
        mine = pairs.first if (side == "first") == straight else pairs.second
        answers.append(int(mine[row]))
    asked = _answered(pairs, answers)
    keys = [_key("kl", own.identity, other.identity, *one) for one in asked]
    found = {key: store.get(key) for key in keys}
    missing = [at for at, key in enumerate(keys) if found[key] is None]
    if missing:
        texts = [asked[at] for at in missing]
        bits = other.bits(texts)
        far = own.divergences(other, texts)
        fresh = {keys[at]: [kl, b] for at, kl, b in zip(missing, far, bits, strict=True)}
        store.put(fresh)
        found |= fresh
    return [tuple(map(_number, found[key] or [None, None]))[:2] for key in keys]  # type: ignore[misc]


class _Probe:
    """A model that torch runs, given prompts and answers."""

    def __init__(self, model: Model) -> None:
        from pomona.models.torch import Probe

        self.identity, self._model, self._probe = model.identity, model, Probe(model)

    def bits(self, asked: Sequence[tuple[str, str]]) -> list[float | None]:
        """Bits a byte of each answer; None for an empty one."""
        units, places = self._units(asked)
        found: list[float | None] = [None] * len(asked)
        for place, scores in zip(places, self._probe.token_scores(units), strict=True):
            # What was cut off to fit is not counted in the bytes either.
            share = len(scores.loss) / self._whole[place]
            size = len(asked[place][1].encode()) * share
            found[place] = float(scores.loss.sum(dtype=np.float64)) / math.log(2) / size
        return found

    def divergences(self, other: _Probe, asked: Sequence[tuple[str, str]]) -> list[float | None]:
        """KL(this model ‖ the other) of each answer's tokens, averaged, in nats; None where their
        tokens differ.
        """
        units, places = self._units(asked)
        theirs, _ = other._units(asked)
        found: list[float | None] = [None] * len(asked)
        same = len(units) == len(theirs) and all(
            a.first == b.first and np.array_equal(a.ids, b.ids)
            for a, b in zip(units, theirs, strict=True)
        )
        if not same or self._probe.shape.vocabulary != other._probe.shape.vocabulary:
            return found
        left = [len(unit.ids) - unit.first for unit in units]
        sums, at = [0.0] * len(units), 0
        for kl in self._blocks(other, units):
            sums[at] += float(kl.sum())
            left[at] -= len(kl)
            at += left[at] == 0
        for place, unit, total in zip(places, units, sums, strict=True):
            found[place] = total / (len(unit.ids) - unit.first)
        return found

    def _blocks(self, other: _Probe, units: Sequence[Any]) -> Iterator[Any]:
        own, theirs = self._probe.logits(units, _ROWS), other._probe.logits(units, _ROWS)
        for p, q in zip(own, theirs, strict=True):
            p, q = p.float().log_softmax(-1), q.float().log_softmax(-1)
            yield (p.exp() * (p - q)).sum(-1).clamp_min(0)

    def _units(self, asked: Sequence[tuple[str, str]]) -> tuple[list[Any], list[int]]:
        """What goes through the network, of each answer that has tokens, cut where it ends."""
        from pomona.models.torch import Unit

        codec, context = self._probe.codec, self._probe.context
        prompts = codec.prompts([prompt for prompt, _ in asked])
        answers = codec.encode([answer for _, answer in asked], special=False)
        self._whole = [len(answer) for answer in answers]
        units, places = [], []
        for place, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
            if context is not None:
                if len(prompt) >= context:
                    message = (
                        f"has {len(prompt):,} tokens, and {self._model.name} reads {context:,}"
                    )
                    where = f"the prompt {asked[place][0][:40]!r}"
                    raise PomonaError(message, where=where, remedy="leave it out, or shorten it")
                answer = answer[: context + 1 - len(prompt)]
            if answer:
                units.append(Unit(np.array([*prompt, *answer], np.int32), len(prompt)))
                places.append(place)
        return units, places

    def close(self) -> None:
        """Give back the memory."""
        from pomona.models import wait_for

        wait_for(self._model.close())


def _key(*parts: str) -> bytes:
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
