"""The report of scores: benchmarks, languages and tiers, models side by side."""
