"""Corpora and parallel text, measured with several tokenizers on many processes."""
