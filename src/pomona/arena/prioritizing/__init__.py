"""Which pairs of answers deserve a human: measures of two completions, what they say of ties,
what a vote is expected to tell, and a queue that knows how likely each of its rows was.
"""
