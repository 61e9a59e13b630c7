"""Stage filters: which documents are kept."""
