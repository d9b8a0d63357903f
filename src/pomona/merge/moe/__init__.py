"""Mixtures of experts out of dense models: their MLPs as experts, gates set by prompts."""
