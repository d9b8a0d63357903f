"""Mixing: which dataset gets which share of training, and when."""

from pomona.data.mixing.mixture import (
    Mixture,
    Origin,
    by_size,
    by_temperature,
    mixture_of,
    two_level,
)
from pomona.data.mixing.order import MixtureStream, stream
from pomona.data.mixing.plan import plan_mixture
from pomona.data.mixing.schedule import (
    Exposure,
    Phase,
    Schedule,
    constant,
    curve,
    exposures,
    leave_one_out,
    schedule_of,
    upsample_end,
)
from pomona.data.mixing.table import mix

__all__ = [
    "Exposure",
    "Mixture",
    "MixtureStream",
    "Origin",
    "Phase",
    "Schedule",
    "by_size",
    "by_temperature",
    "constant",
    "curve",
    "exposures",
    "leave_one_out",
    "mix",
    "mixture_of",
    "plan_mixture",
    "schedule_of",
    "stream",
    "two_level",
    "upsample_end",
]
