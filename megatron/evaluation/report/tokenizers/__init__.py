"""The report of tokenizers: what each of them does to each language, as a page, tables and JSON."""
