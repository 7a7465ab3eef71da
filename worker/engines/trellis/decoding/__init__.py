"""Decode latents to a surface."""
