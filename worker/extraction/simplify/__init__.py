"""Reduce the number of triangles, on the GPU and on the CPU."""
