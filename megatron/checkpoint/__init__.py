"""Checkpoints of a run, and Hugging Face folders in and out."""
