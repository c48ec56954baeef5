"""Floor 1: small real image classification."""
