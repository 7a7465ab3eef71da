"""Remesh any surface as a closed offset surface."""
