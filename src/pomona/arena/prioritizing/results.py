"""What `prioritize` and its replay tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from pomona.arena.prioritizing.queue import By, Expected
from pomona.arena.prioritizing.ties import Bin, Change
from pomona.errors import quantity
from pomona.pages import UNKNOWN, clean, count

ADDED = ("rank", "p_tie", "p_a", "information", "propensity", "available", "random")
# How pairs are chosen in a replay, by what they are drawn by and what P(tie) is told from.
CHOSEN: Mapping[tuple[str, str | None], str] = {
    ("random", None): "at random",
    ("information", None): "information",
    ("ties", "all"): "fewest ties",
    ("ties", "prompt"): "fewest ties, prompts alone",
}
KNOWN = {"all": "prompts and answers", "prompt": "prompts alone", "answers": "answers alone"}
Cells = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """A measure of two answers, and by how much votes are ties more or less often among the fifth
    of the pairs where it is largest, and where it is smallest: change, ci_low and ci_high as parts
    of the share of ties among all. None without votes.
    """

    name: str
    what: str
    largest: Change | None
    smallest: Change | None

    def to_json(self) -> dict[str, Any]:
        """All of it by name."""
        ends = {"largest": self.largest, "smallest": self.smallest}
        return {"name": self.name, "what": self.what} | {n: changed(e) for n, e in ends.items()}

    def cells(self) -> Cells:
        """A row for people."""
        return {
            "measure": self.name,
            "what it is": self.what,
            "ties where it is largest": percent(self.largest),
            "where it is smallest": percent(self.smallest),
        }


@dataclass(frozen=True)
class PilotFit:
    """P(tie) as the votes so far teach it, and what it is worth on pairs that were held out.

    votes, pairs, ties: what it was learnt from.
    slope: of the held-out log odds with its interval, 1 where they are as extreme as they should
        be.
    loss, plain_loss: log loss a held-out vote in nats, and with the share of ties alone.
    fewest: by what it knows (all, prompt, answers), the change in ties among the fifth of the
        held-out pairs where they are least likely.
    """

    votes: int
    pairs: int
    ties: float
    slope: float
    slope_low: float
    slope_high: float
    loss: float
    plain_loss: float
    fewest: Mapping[str, Change | None]
    reliability: Sequence[Bin]

    def to_json(self) -> dict[str, Any]:
        """All of it by name."""
        return asdict(self) | {"fewest": {name: changed(of) for name, of in self.fewest.items()}}

    def lines(self) -> list[str]:
        """What it is worth, in words."""
        parts = [f"{KNOWN[kind]} {percent(of)}" for kind, of in self.fewest.items()]
        slope = f"{self.slope:.2f} [{self.slope_low:.2f}, {self.slope_high:.2f}]"
        return [
            "ties among the fifth of held-out pairs said to have fewest: " + "; ".join(parts),
            f"calibration slope {slope}; log loss {self.loss:.3f} nats a held-out vote, "
            f"{self.plain_loss:.3f} by the share of ties",
        ]


@dataclass(frozen=True)
class BelievedModel:
    """A model's rating in Elo about a mean of 1000, three times: of all votes alike, of votes by
    the inverse of their probability, and as the queue believes it, which begins at what the answers
    suggest. None where it is not known.
    """

    model: str
    votes: int
    rating: float | None
    ci_low: float | None
    ci_high: float | None
    inverse: float | None
    inverse_low: float | None
    inverse_high: float | None
    believed: float
    believed_low: float
    believed_high: float

    def cells(self) -> Cells:
        """A row for people."""
        return {
            "model": clean(self.model),
            "votes": count(self.votes),
            "rating": _elo(self.rating, self.ci_low, self.ci_high),
            "by inverse propensity": _elo(self.inverse, self.inverse_low, self.inverse_high),
            "as believed": _elo(self.believed, self.believed_low, self.believed_high),
        }


@dataclass(frozen=True)
class Priorities:
    """Pairs in the order in which people should be asked about them.

    queue: a row a vote, best first: the columns of the pairs, and rank (from 1), p_tie, p_a (that
        a wins where it is no tie), information (expected, of the vote), propensity (the probability
        of this row at its step), available (rows that could be drawn then, a pair as often as it
        may still be shown) and random (of the random
        share). p_tie, p_a and information are null where there are no votes to learn from.
    reached: what ended it: the resolution, the order, the budget, or all pairs.
    path: what is expected after so many votes; at_random: votes on pairs drawn at random for the
        same half-width, None where even all would not do.
    by: what pairs were drawn by.
    spent: what scoring costs at most, of a dry run with models.
    """

    queue: pa.Table
    pairs: int
    by: By
    reached: str
    path: Sequence[Expected]
    at_random: int | None
    measures: Sequence[Measured]
    pilot: PilotFit | None
    ratings: Sequence[BelievedModel]
    notes: list[str]
    signature: str
    seed: int
    spent: Mapping[str, Any] | None = None
    out: str | None = None

    def rows(self, most: int = 100) -> list[dict[str, Any]]:
        """The first rows of the queue, without the answers."""
        table = self.queue.slice(0, most)
        return table.select(["prompt", "model_a", "model_b", *ADDED]).to_pylist()

    def cells(self, most: int) -> list[Cells]:
        """The same for people."""
        return [_queued(row) for row in self.rows(most)]

    def headline(self) -> str:
        """What the queue is, in a sentence."""
        many, last = len(self.queue), self.path[-1] if self.path else None
        told = f"{quantity(many, 'vote')} on {quantity(self.pairs, 'pair')}"
        if last is None or self.pilot is None or not many:
            return f"{told}, by {self.by}"
        ties = "" if last.ties is None else f", of which {last.ties / many:.0%} may be ties,"
        return f"{told}{ties} are expected to take ratings to ± {last.half_width:.0f} Elo"

    def to_json(self) -> dict[str, Any]:
        """All of it by name, and the first rows of the queue."""
        return {
            "pairs": self.pairs,
            "votes": len(self.queue),
            "by": self.by,
            "reached": self.reached,
            "at_random": self.at_random,
            "queue": self.rows(),
            "path": [asdict(one) for one in self.path],
            "measures": [one.to_json() for one in self.measures],
            "pilot": self.pilot and self.pilot.to_json(),
            "ratings": [asdict(one) for one in self.ratings],
            "spent": self.spent,
            "out": self.out,
            "notes": self.notes,
            "seed": self.seed,
            "signature": self.signature,
        }


@dataclass(frozen=True)
class TiesReplayed:
    """Ties among the fifth of the unseen pairs where they were said to be least likely, less those
    among all of them, as a part of these: mean over pilots, its standard deviation over pilots, and
    the range that 95 % of the pilots are in.

    against_prompt: this less that of prompts alone, over the same pilots.
    """

    known: str
    mean: float
    sd: float
    low: float
    high: float
    against_prompt: Change | None

    def cells(self) -> Cells:
        """A row for people."""
        off = self.against_prompt
        return {
            "P(tie) from": KNOWN[self.known],
            "change in ties": percent((self.mean, self.low, self.high)),
            "sd over pilots": f"{self.sd:.0%}",
            "against prompts alone": "—" if off is None else percent(off),
        }


@dataclass(frozen=True)
class RankingReplayed:
    """How near the ranking after so many votes comes to that of votes held out, by Kendall's tau.

    chosen: what pairs were drawn by; known: what P(tie) was told from, None where it was not used.
    rated: by "votes" alone, or as "believed", with the prior of the answers.
    votes, tau: the curve, means over pilots.
    needed: votes for the tau that as many votes at random as `of` give, rated by votes alone, with
        a 95 % interval over pilots; None where it is not reached.
    """

    chosen: By
    known: str | None
    rated: str
    votes: Sequence[int]
    tau: Sequence[float]
    of: int
    needed: float | None
    needed_low: float | None
    needed_high: float | None

    @property
    def part(self) -> float | None:
        """Votes needed as a part of those at random."""
        return None if self.needed is None else self.needed / self.of

    def cells(self) -> Cells:
        """A row for people."""
        low, high = (
            "…" if end is None else f"{end / self.of:.0%}"
            for end in (self.needed_low, self.needed_high)
        )
        known = self.needed is not None
        return {
            "pairs chosen": CHOSEN[self.chosen, self.known],
            "rated by": self.rated,
            "votes": f"{self.needed:,.0f} for {self.of:,} at random" if known else UNKNOWN,
            "part": f"{self.part:.0%} [{low}, {high}]" if known else UNKNOWN,
        }


@dataclass(frozen=True)
class Replay:
    """What a queue would have saved on votes that are there already."""

    votes: int
    pairs: int
    share: float
    pilots: int
    ties: Sequence[TiesReplayed]
    rankings: Sequence[RankingReplayed]
    measures: Sequence[Measured]
    notes: list[str] = field(default_factory=list)
    signature: str = ""
    seed: int = 0

    def headline(self) -> str:
        """What it shows, in a sentence."""
        of = {one.known: one.mean for one in self.ties}
        told = (
            f"ties among the fifth said to have fewest: {of['all']:+.0%}, by prompts alone "
            f"{of['prompt']:+.0%}".replace("-", "−")
        )
        best = min(
            (one for one in self.rankings if one.chosen == "information" and one.rated == "votes"),
            key=lambda one: one.part or float("inf"),
        )
        if best.part is None:
            return f"{told}; the ranking of {best.of:,} votes at random is not reached"
        return f"{told}; the ranking of {best.of:,} votes at random takes {best.part:.0%} of them"

    def to_json(self) -> dict[str, Any]:
        """All of it by name."""
        told = {
            name: value for name, value in asdict(self).items() if name not in ("ties", "measures")
        }
        told["rankings"] = [asdict(one) | {"part": one.part} for one in self.rankings]
        told["ties"] = [
            asdict(one) | {"against_prompt": changed(one.against_prompt)} for one in self.ties
        ]
        return told | {"measures": [one.to_json() for one in self.measures]}


def changed(one: Change | None) -> dict[str, float] | None:
    """A change with the names of its parts."""
    return None if one is None else dict(zip(("change", "ci_low", "ci_high"), one, strict=True))


def percent(one: Change | None) -> str:
    """A change with its interval, in percent."""
    if one is None:
        return UNKNOWN
    return f"{one[0]:+.0%} [{one[1]:+.0%}, {one[2]:+.0%}]".replace("-", "−")


def _queued(row: Mapping[str, Any]) -> Cells:
    prompt = clean(" ".join(str(row["prompt"]).split()))
    told = row["information"]
    return {
        "rank": row["rank"],
        "prompt": prompt if len(prompt) <= 60 else prompt[:59] + "…",
        "a": clean(str(row["model_a"])),
        "b": clean(str(row["model_b"])),
        "P(tie)": _part(row["p_tie"]),
        "P(a)": _part(row["p_a"]),
        "information": UNKNOWN if told is None else f"{told:.3f}",
        "propensity": f"{row['propensity']:.2g}",
    }


def _part(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.2f}"


def _elo(value: float | None, low: float | None, high: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.0f} [{low:.0f}, {high:.0f}]"
