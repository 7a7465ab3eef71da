"""Measure sampling and decoding of TRELLIS.2 against upstream."""
