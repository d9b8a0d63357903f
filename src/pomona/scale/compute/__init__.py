"""What a model costs: its modules, training and answering, thresholds of laws, and energy."""
