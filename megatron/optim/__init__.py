"""The optimizer and its learning-rate schedule. ``schedule`` imports no torch."""
