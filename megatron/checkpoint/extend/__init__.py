"""Models whose tokenizer has been extended: rows for the new tokens."""
