"""Rewards: how good answers are, as a number each that is higher for better and NaN where it is not
known.

Without a human's answer: the language, placeholders, the length, the agreement of several teachers,
the likelihood under a third model, a translation back, a server's reward model, a user's function,
and the mean of several on one scale. With one, for validation: any metric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.synth.rewards.comparing import (
        Agreement as Agreement,
        Record as Record,
        Reference as Reference,
    )
    from pomona.synth.rewards.likelihood import Likelihood as Likelihood
    from pomona.synth.rewards.paid import PaidReward as PaidReward, spent as spent
    from pomona.synth.rewards.reward import (
        Computed as Computed,
        Key as Key,
        Reward as Reward,
        by_row as by_row,
        key_of as key_of,
    )
    from pomona.synth.rewards.round_trip import RoundTrip as RoundTrip
    from pomona.synth.rewards.served import HttpReward as HttpReward
    from pomona.synth.rewards.specs import (
        RewardsSpec as RewardsSpec,
        reward_from as reward_from,
    )
    from pomona.synth.rewards.texts import (
        Function as Function,
        KnownWords as KnownWords,
        LanguageMatch as LanguageMatch,
        LengthRatio as LengthRatio,
        PlaceholdersKept as PlaceholdersKept,
    )
    from pomona.synth.rewards.weighted import Weighted as Weighted

__getattr__, __dir__ = lazily(
    __name__,
    {
        "comparing": "Agreement Record Reference",
        "likelihood": "Likelihood",
        "paid": "PaidReward spent",
        "reward": "Computed Key Reward by_row key_of",
        "round_trip": "RoundTrip",
        "served": "HttpReward",
        "specs": "RewardsSpec reward_from",
        "texts": "Function KnownWords LanguageMatch LengthRatio PlaceholdersKept",
        "weighted": "Weighted",
    },
)
