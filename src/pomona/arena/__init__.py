"""Which model wins, how sure are we, and which prompts deserve a human?

`pairing` puts answers side by side, `votes` reads who was preferred to whom, and `ratings` fits
Bradley-Terry models to that, with clustered and simultaneous intervals. `auditing` asks what a
leaderboard owes its readers, `prioritizing` which pair to show next, `judging` what models'
verdicts are worth beside people's, and `annotating` is the page on which people vote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.arena.auditing.results import ArenaAudit as ArenaAudit
    from pomona.arena.auditing.run import audit as audit
    from pomona.arena.judging.asking import (
        PairVerdict as PairVerdict,
        judge_pair as judge_pair,
        judge_pairs as judge_pairs,
        metric_values as metric_values,
        pair_requests as pair_requests,
    )
    from pomona.arena.judging.prompting import (
        JudgePrompt as JudgePrompt,
        judge_prompt as judge_prompt,
    )
    from pomona.arena.judging.results import (
        Agreement as Agreement,
        Estimate as Estimate,
        FlipRule as FlipRule,
        JudgeAudit as JudgeAudit,
        JudgedModel as JudgedModel,
        Powered as Powered,
        Preference as Preference,
    )
    from pomona.arena.judging.run import judge as judge
    from pomona.arena.judging.tables import (
        ToldTable as ToldTable,
        judge_lines as judge_lines,
        judge_tables as judge_tables,
    )
    from pomona.arena.pairing import pairs as pairs
    from pomona.arena.prioritizing.queue import Expected as Expected
    from pomona.arena.prioritizing.replay import replay as replay
    from pomona.arena.prioritizing.results import (
        BelievedModel as BelievedModel,
        Measured as Measured,
        PilotFit as PilotFit,
        Priorities as Priorities,
        RankingReplayed as RankingReplayed,
        Replay as Replay,
        TiesReplayed as TiesReplayed,
    )
    from pomona.arena.prioritizing.run import prioritize as prioritize
    from pomona.arena.prioritizing.ties import Bin as Bin
    from pomona.arena.ratings.live import LiveRatings as LiveRatings, Standing as Standing
    from pomona.arena.ratings.results import (
        Clustering as Clustering,
        RatedModel as RatedModel,
        Ratings as Ratings,
        StyleEffect as StyleEffect,
    )
    from pomona.arena.ratings.run import fit as fit
    from pomona.arena.vote_columns import VoteColumns as VoteColumns
    from pomona.arena.votes import (
        OUTCOMES as OUTCOMES,
        Votes as Votes,
        read_votes as read_votes,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "auditing.results": "ArenaAudit",
        "auditing.run": "audit",
        "judging.asking": "PairVerdict judge_pair judge_pairs metric_values pair_requests",
        "judging.prompting": "JudgePrompt judge_prompt",
        "judging.results": "Agreement Estimate FlipRule JudgeAudit JudgedModel Powered Preference",
        "judging.run": "judge",
        "judging.tables": "ToldTable judge_lines judge_tables",
        "pairing": "pairs",
        "ratings.live": "LiveRatings Standing",
        "prioritizing.queue": "Expected",
        "prioritizing.replay": "replay",
        "prioritizing.results": "Measured PilotFit Priorities RankingReplayed BelievedModel Replay "
        "TiesReplayed",
        "prioritizing.run": "prioritize",
        "prioritizing.ties": "Bin",
        "ratings.results": "Clustering RatedModel Ratings StyleEffect",
        "ratings.run": "fit",
        "vote_columns": "VoteColumns",
        "votes": "OUTCOMES Votes read_votes",
    },
)
