"""The networks of TRELLIS.2, in plain PyTorch and Triton."""
