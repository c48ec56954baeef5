"""Floor 2: parameters, multiply-accumulates, memory."""
