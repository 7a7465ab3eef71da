"""Processes, load and peers that several measurements use."""
