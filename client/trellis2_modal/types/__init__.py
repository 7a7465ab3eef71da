"""Typed records of the API's responses."""
