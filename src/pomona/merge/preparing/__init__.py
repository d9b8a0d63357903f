"""What is special about a model (adapter, tokenizer, other names) becomes plain tensors before the
merge.
"""
