"""What an audit of a leaderboard says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pomona.arena.auditing.board import ALPHA
from pomona.arena.auditing.effects import Effect
from pomona.arena.auditing.fragility import Fragility
from pomona.arena.auditing.orders import Drift, Repetition
from pomona.arena.auditing.providers import Providers
from pomona.arena.auditing.retired import Graph, Retired
from pomona.arena.auditing.twins import TwinAudit
from pomona.arena.auditing.voters import Voters
from pomona.arena.auditing.winners import Winners
from pomona.pages import change

TITLES = {
    "position": "the side an answer is on",
    "length": "the length of answers",
    "repetition": "the side taken before",
    "drift": "ratings over time",
    "voters": "voters who disagree",
    "providers": "what is shown of whom",
    "twins": "one checkpoint, two names",
    "best_of_n": "the best of n variants",
    "retired": "retired models",
}
UNITS = {
    "elo, difference, low, high": "points of Elo: 400 are a factor of ten in the odds",
    "share": "of all votes",
    "fragility": "votes: the fewest, dropped by their influence, after which a refit has changed "
    "the order; with_margin: 3 % more than influence alone predicts, where a refit agrees",
    "p_value": "of the null that stands beside; *_holm and q_value are corrected for how many were "
    "tested; each audit alarms at 0.05",
    "unknown": "what these votes cannot tell, and why",
}


@dataclass(frozen=True)
class Summary:
    """An audit in a line: what was found, of which null, with which p-value. alarm: None where an
    audit has none, or does not know.
    """

    name: str
    title: str
    found: str
    null: str
    p_value: float | None
    alarm: bool | None


@dataclass(frozen=True)
class ArenaAudit:
    """What a leaderboard owes its readers. What the votes do not tell is None, and `unknown` says
    why.

    first_place: the fewest votes that change who is first; neighbours: and every two neighbours.
    left_out: models without a finite rating. clusters: what votes share, finest first.
    """

    models: int
    votes: int
    ties: str
    clusters: Sequence[str]
    first_place: Fragility
    neighbours: Sequence[Fragility]
    position: Effect | None
    length: Effect | None
    repetition: Repetition | None
    drift: Drift | None
    voters: Voters | None
    providers: Providers | None
    twins: TwinAudit | None
    best_of_n: Winners | None
    retired: Retired | None
    graph: Graph
    unknown: Mapping[str, str]
    left_out: Sequence[str]
    notes: Sequence[str]
    signature: str
    seed: int

    @property
    def alarms(self) -> list[str]:
        """Audits whose null is rejected."""
        told = {name: getattr(self, name) for name in TITLES if name != "best_of_n"}
        return [name for name, one in told.items() if one is not None and one.alarm]

    def headline(self) -> str:
        """The first place, and how little it takes."""
        one = self.first_place
        if one.votes is None or one.share is None:
            return f"{one.model} is first; {one.reason}"
        votes = "1 vote" if one.votes == 1 else f"{one.votes:,} votes"
        share = f"{100 * one.share:.2g} % of {self.votes:,}"
        return f"{one.model} is first; without {votes} ({share}) {one.by} is"

    def summary(self) -> list[Summary]:
        """Every audit in a line, in words for people."""
        told = []
        for name, title in TITLES.items():
            one = getattr(self, name)
            if one is None:
                told.append(Summary(name, title, f"unknown: {self.unknown[name]}", "—", None, None))
            else:
                alarm = None if name == "best_of_n" else one.alarm
                found = _FOUND[name](one)
                told.append(Summary(name, title, found, one.null, one.p_value, alarm))
        return told

    def to_json(self) -> dict[str, Any]:
        """As JSON has it: fragility first, then every audit, null where it is unknown."""
        told: dict[str, Any] = {
            "fragility": {
                "models": self.models,
                "votes": self.votes,
                "ties": self.ties,
                "first_place": asdict(self.first_place),
                "neighbours": [asdict(one) for one in self.neighbours],
            }
        }
        for name in TITLES:
            one = getattr(self, name)
            told[name] = None if one is None else asdict(one)
        told |= {"graph": asdict(self.graph), "unknown": dict(self.unknown)}
        told |= {"alarms": self.alarms, "clusters": list(self.clusters)}
        told |= {"left_out": list(self.left_out), "notes": list(self.notes)}
        return {**told, "seed": self.seed, "signature": self.signature, "units": UNITS}


def _position(one: Effect) -> str:
    sides = f"left {one.first:.0%}, right {one.second:.0%} at equal strength"
    return f"{change(one.elo, one.low, one.high)} Elo for the left: {sides}"


def _length(one: Effect) -> str:
    told = f"longer {one.first:.0%}, shorter {one.second:.0%} at equal strength"
    return f"{change(one.elo, one.low, one.high)} Elo for twice the length: {told}"


def _repetition(one: Repetition) -> str:
    ends = change(one.correlation, one.low, one.high)
    return f"correlation {ends} of {one.pairs:,} votes with the one before"


def _drift(one: Drift) -> str:
    first = one.models[0]
    return f"{first.model}: {change(first.elo, first.low, first.high)} Elo from first to last"


def _voters(one: Voters) -> str:
    told = f"{one.flagged} of {one.tested} disagree with {one.against}"
    if (moved := one.moved) is None:
        return told
    first = "" if moved.first == moved.first_before else f", and {moved.first} is first"
    places = f"{moved.places} models change places{first}"
    return f"{told}; without them {moved.model} has {moved.elo:+.0f} Elo, {places}"


def _providers(one: Providers) -> str:
    flagged = [row for row in one.providers if row.p_holm <= ALPHA]
    if not flagged:
        return f"{len(one.providers)} providers, none shown more or less than chance"
    return "; ".join(f"{row.provider} {row.ratio:.2f} times as often" for row in flagged)


def _twins(one: TwinAudit) -> str:
    first = one.twins[0]
    ends = change(first.difference, first.low, first.high)
    many = f"{len(one.twins)} pairs; " if len(one.twins) > 1 else ""
    return f"{many}{first.first}, {first.second}: {ends} Elo"


def _winners(one: Winners) -> str:
    first, families = one.winners[0], len(one.winners)
    told = f"{one.supported} of {families} better than the second best"
    most = "up to " if first.bound else ""
    return f"{told}; {first.model} owes {most}{first.bias:.0f} Elo to being the best of {first.n}"


def _retired(one: Retired) -> str:
    told = f"{len(one.retired)} retired {one.found}"
    if one.reason:
        return f"{told}; {one.reason}"
    moved = one.moved
    return told if moved is None else f"{told}; without them {moved.model} has {moved.elo:+.0f} Elo"


_FOUND: Mapping[str, Any] = {
    "position": _position,
    "length": _length,
    "repetition": _repetition,
    "drift": _drift,
    "voters": _voters,
    "providers": _providers,
    "twins": _twins,
    "best_of_n": _winners,
    "retired": _retired,
}
