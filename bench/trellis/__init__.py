"""Measure sampling and decoding of TRELLIS.2 beside upstream."""
