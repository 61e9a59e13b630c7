"""Stage clean: small named rules that take from a text what is no text."""
