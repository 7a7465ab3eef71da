"""Sample the flow models."""
