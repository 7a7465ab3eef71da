"""Give the results of a batch as CSV, JSON lines or zip."""
