"""The project's own benchmarks: preparing their data, asking a model, scoring its answers, making new ones."""
