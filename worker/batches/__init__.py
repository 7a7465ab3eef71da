"""Plan catalogs, and dispatch their rows as jobs."""
