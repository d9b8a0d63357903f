"""Laws of scale: the loss of a training run from its parameters and tokens."""
