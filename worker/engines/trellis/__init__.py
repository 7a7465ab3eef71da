"""The TRELLIS.2 engine: the published weights, sampled exactly, on PyTorch alone."""
