"""The data lever: score examples and keep the ones that teach most."""

from pomona.data.prune import Band, select_band
from pomona.data.scores import Scored, perplexity

__all__ = ["Band", "Scored", "perplexity", "select_band"]
