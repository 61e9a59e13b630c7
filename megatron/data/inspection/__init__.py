"""What lies in shards, whether it is whole, and how it lies in files."""
