"""ASGI middleware that wraps every request."""
