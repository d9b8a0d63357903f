"""What verdicts of models and metrics on pairs of answers are worth beside people's: asked in both
orders, audited for agreement and preferences, and put to use with few votes of people.
"""
