"""Floor 1: the update rules of the notes."""
