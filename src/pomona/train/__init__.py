"""Fine-tuning, thin over transformers' Trainer: token budgets, weights, checkpoints that survive a kill."""
