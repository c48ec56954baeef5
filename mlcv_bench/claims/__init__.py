"""Floor 2: the remarks of the course notes, tested."""
