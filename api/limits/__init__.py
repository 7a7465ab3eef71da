"""Limit what one caller may send: keys, quotas, rates, sizes, admission."""
