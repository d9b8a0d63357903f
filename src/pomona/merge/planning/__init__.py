"""From a recipe to a plan: models are opened and checked against each other, and every tensor of
the result gets its job.
"""
