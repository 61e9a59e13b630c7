"""From the files that a benchmark comes as to one folder for each language, with a manifest."""
