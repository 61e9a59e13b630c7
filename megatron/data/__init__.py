"""From shards on disk to batches: the ``.bin/.idx`` format, manifests, mixtures, the sample order and the loader."""
