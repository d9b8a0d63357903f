"""How a merge recipe is read: YAML with line numbers, then every section checked, all mistakes said
at once.
"""
