"""Mixtures as tables, from shards or from counts alone."""
