"""The run graph: a YAML recipe becomes content-addressed steps, run once each, and a ledger."""
