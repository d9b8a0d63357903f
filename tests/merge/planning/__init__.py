"""Plans of merges."""
