"""Logging and file helpers that every other package may use. Standard library plus tqdm and xxhash; no torch."""
