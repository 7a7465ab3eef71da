"""Measure mesh extraction beside its peers."""
