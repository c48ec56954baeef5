"""Floor 2: which optimizer trains a model first."""
