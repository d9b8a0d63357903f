"""The merging lever: one checkpoint out of several, without a gradient."""
