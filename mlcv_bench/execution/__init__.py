"""Floor 3: where trials run and where outcomes are kept."""
