"""The sampling lever: several answers, one choice."""

from pomona.sample.mbr import chrf_mbr
from pomona.sample.pool import extremes, hedged

__all__ = ["chrf_mbr", "extremes", "hedged"]
