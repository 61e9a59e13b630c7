"""What makes texts equal or nearly so: n-grams of characters, MinHash keys, buckets, closeness to held-out text.

Pure functions over numpy arrays; which files they run over, and where their keys lie meanwhile, is not their concern.
"""
