"""Checkpoints on disk: their tensors, what the tensors' names tell, and the hashes of their
files.
"""
