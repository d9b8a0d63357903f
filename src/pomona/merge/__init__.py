"""The merging lever: one checkpoint out of several, without a gradient."""

from pomona.merge.checkpoint import Tensors, merge_checkpoints
from pomona.merge.weights import linear, normalised, slerp, slerp_all

__all__ = ["Tensors", "linear", "merge_checkpoints", "normalised", "slerp", "slerp_all"]
