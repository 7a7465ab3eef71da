"""Show progress, and write results to files."""
