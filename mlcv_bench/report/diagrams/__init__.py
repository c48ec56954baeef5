"""Networks as pictures: traced by torch.fx, laid out here, painted by matplotlib or written for Graphviz."""
