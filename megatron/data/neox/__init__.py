"""GPT-NeoX's way of naming data: paths of shards, without a manifest."""
