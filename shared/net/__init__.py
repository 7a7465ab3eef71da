"""Reach URLs of strangers safely: address policy, egress, range reads."""
