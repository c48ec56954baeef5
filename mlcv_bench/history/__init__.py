"""Floor 2: results over commits: where they are kept, and at which commit a figure jumped."""
