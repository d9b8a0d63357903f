"""How far the weights of a model can be predicted from a part of them (Denil et al. 2013).

`kernels` predicts one matrix, `redundancy` rebuilds and measures a model, `training` trains the
small part alone, with the rest of each matrix computed from it.
"""
