"""Engines: adapters from an image to a surface."""
