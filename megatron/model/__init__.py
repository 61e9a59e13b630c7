"""Llama on one device: plain modules that know nothing of parallelism, of configuration files or of the disk."""
