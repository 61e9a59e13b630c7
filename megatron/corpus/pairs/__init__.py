"""Parallel text: which sentence pairs are kept, and how they become documents."""
