"""Topology, geometry and repair of triangle meshes."""
