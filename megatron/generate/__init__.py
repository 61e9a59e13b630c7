"""Writes text with a trained model."""
