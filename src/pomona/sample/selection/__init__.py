"""Choosing one answer of a pool: `choose`."""
