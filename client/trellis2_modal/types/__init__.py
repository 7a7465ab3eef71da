"""What the API returns, as typed records."""
