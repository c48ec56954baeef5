"""Floor 2: what of the loss of a real network can be seen: planes through it, and the optimizers' paths on them."""
