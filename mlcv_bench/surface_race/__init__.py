"""Floor 2: which optimizer gets there first on a surface."""
