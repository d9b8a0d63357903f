"""Which model wins, how sure are we, and which prompts deserve a human?

`pairs` puts answers side by side, `votes` reads who was preferred to whom, and `ratings` fits
Bradley-Terry models to that, with clustered and simultaneous intervals. `auditing` asks what a
leaderboard owes its readers, `prioritizing` which pair to show next, `judging` what models'
verdicts are worth beside people's, and `annotating` is the page on which people vote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.arena.pairs import pair_up as pair_up
    from pomona.arena.votes import (
        OUTCOMES as OUTCOMES,
        VoteColumns as VoteColumns,
        Votes as Votes,
        read_votes as read_votes,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "pairs": "pair_up",
        "votes": "OUTCOMES VoteColumns Votes read_votes",
    },
)
