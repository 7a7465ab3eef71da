"""Topology and normals of triangle meshes."""
