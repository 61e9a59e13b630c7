"""Everything that knows of more than one process: start-up, collectives, gradient reduction."""
