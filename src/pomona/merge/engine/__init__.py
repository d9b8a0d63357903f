"""The engine: tensors are read block by block, merged in any number of threads, and written whole
or not at all.
"""
