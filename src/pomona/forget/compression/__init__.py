"""Smaller models: pruned, quantised, of low rank, and GGUF files.

`settings` says what can be asked for, `planning` decides tensor by tensor, `weights` has the
arithmetic, `run` writes checkpoints, `ggml` GGUF files.
"""
