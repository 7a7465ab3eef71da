"""Example bodies for the OpenAPI document."""
