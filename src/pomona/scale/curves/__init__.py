"""Curves over sizes: whether a metric's is smooth or broken, and whether small sizes rank levers as
large ones do.
"""
