"""Floor 2: two saved results of one study against each other."""
