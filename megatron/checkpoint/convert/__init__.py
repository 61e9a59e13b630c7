"""Checkpoints of other programs, in and out: a file for each format, all of which speak of tensors by our names."""
