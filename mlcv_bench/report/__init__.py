"""Floor 3: tables, files and pictures."""
