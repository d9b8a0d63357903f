"""What a leaderboard owes its readers: how few votes change it, whose models are shown more, and
what moves votes beside the models.
"""
