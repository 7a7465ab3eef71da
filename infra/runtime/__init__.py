"""Build and run the parts of one process."""
