"""What a trained model is worth: bits per byte of held-out text, and the report of a run (which needs no torch)."""
