"""Bake, dilate and encode textures."""
