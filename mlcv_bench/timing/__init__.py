"""Floor 2: how long a forward pass takes, with an interval."""
