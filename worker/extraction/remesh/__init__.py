"""Remesh any surface as one closed offset mesh."""
