"""The sampling lever: several answers, one choice."""
