"""lm-evaluation-harness over our models: its own prompts and metrics, on data that lies in local files."""
