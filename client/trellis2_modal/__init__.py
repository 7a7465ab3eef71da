"""Client of the TRELLIS.2 image-to-3D service."""
