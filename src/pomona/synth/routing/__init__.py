"""Routing: which teacher is asked about which row, what that gains over asking one alone, and what
it costs (multilingual arbitrage: Odumakinde et al. 2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pomona._lazy import lazily

if TYPE_CHECKING:
    from pomona.synth.routing.comparing import (
        Judging as Judging,
        compare_policies as compare_policies,
    )
    from pomona.synth.routing.features import Features as Features, Sees as Sees
    from pomona.synth.routing.learning import Form as Form, learn_router as learn_router
    from pomona.synth.routing.measured import gains as gains, measure_fixed as measure_fixed
    from pomona.synth.routing.policies import (
        Every as Every,
        Fixed as Fixed,
        Group as Group,
        Keep as Keep,
        Policy as Policy,
        Random as Random,
        Single as Single,
        lot as lot,
        share as share,
    )
    from pomona.synth.routing.pool import Pool as Pool, Routed as Routed
    from pomona.synth.routing.results import (
        EVERY as EVERY,
        Above as Above,
        Costs as Costs,
        GainShare as GainShare,
        Routes as Routes,
        Routing as Routing,
        Standing as Standing,
    )
    from pomona.synth.routing.router import Learned as Learned, Router as Router
    from pomona.synth.routing.run import (
        AnswerColumns as AnswerColumns,
        best_single as best_single,
        route as route,
    )

__getattr__, __dir__ = lazily(
    __name__,
    {
        "comparing": "Judging compare_policies",
        "features": "Features Sees",
        "learning": "Form learn_router",
        "measured": "gains measure_fixed",
        "policies": "Every Fixed Group Keep Policy Random Single lot share",
        "pool": "Pool Routed",
        "results": "EVERY Above Costs GainShare Routes Routing Standing",
        "router": "Learned Router",
        "run": "AnswerColumns best_single route",
    },
)
