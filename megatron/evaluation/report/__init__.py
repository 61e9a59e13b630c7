"""The report of a run, or of several, as one HTML page."""
