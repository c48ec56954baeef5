"""Floor 2: whether two formulations are one function."""
