"""The passes of the pipeline: each turns files of documents into others, one task for each file."""
