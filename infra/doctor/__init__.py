"""Check whether a deployment on Modal has all that it needs."""
