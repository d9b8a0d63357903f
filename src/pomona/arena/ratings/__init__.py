"""Ratings of models by votes: Bradley-Terry with ties on counts, intervals that know which votes
hang together, ranks, style, categories.
"""
