"""Reading raw text: one module for each family of formats, and the finding of files."""
