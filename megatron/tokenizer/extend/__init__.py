"""Extending a vocabulary: new tokens for more languages, the old segmentation of chosen ones unchanged."""
