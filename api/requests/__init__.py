"""Parse request bodies and query parameters into submissions."""
