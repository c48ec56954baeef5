"""Floor 3: pictures, one file per study."""
