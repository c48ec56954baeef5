"""The public Python interface: what the commands do, as functions whose results show themselves; one file a study."""
