"""Measure mesh extraction against its peers."""
