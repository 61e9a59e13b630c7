"""The training loop: the one place that holds the whole configuration and puts the parts together."""
