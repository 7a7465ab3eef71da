"""Repair jobs and collect garbage, from the records alone."""
