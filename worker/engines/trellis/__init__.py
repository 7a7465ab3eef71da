"""The TRELLIS.2 engine: an exact implementation of the published pipeline in PyTorch and Triton."""
