"""Simulate a fleet on Modal, and compute what an asset costs."""
