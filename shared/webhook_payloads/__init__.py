"""Bodies of webhook events."""
