"""The sampling lever: several answers, one choice."""

from pomona.sample.mbr import chrf_mbr
from pomona.sample.pool import extremes, hedged
from pomona.sample.store import Stored

__all__ = ["Stored", "chrf_mbr", "extremes", "hedged"]
