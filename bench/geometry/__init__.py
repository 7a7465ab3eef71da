"""Test surfaces, and measures of meshes and textures."""
