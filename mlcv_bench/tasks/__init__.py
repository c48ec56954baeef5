"""Floor 1: small real image classification: data, models, and mini-batches as the notes define them."""
