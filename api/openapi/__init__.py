"""Describe the API as an OpenAPI document."""
