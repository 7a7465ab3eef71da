"""Read product catalogs: CSV, JSON lines, XML feeds, zips."""
