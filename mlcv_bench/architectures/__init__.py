"""Floor 1: the networks of the notes, and the way to any other."""
