"""The annotators' page: people are shown pairs of answers without a word of whose they are, and
say which one is better; their votes, edits and ratings are kept in a database.
"""
