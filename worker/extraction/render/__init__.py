"""Render posters."""
