"""Processes, load and peers that several benches use."""
