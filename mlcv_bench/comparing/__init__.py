"""Floor 2: a saved result against another, and against limits."""
