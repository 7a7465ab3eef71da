"""Exact versions that the containers install."""
