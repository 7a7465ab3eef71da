"""Warp set-up, and kernels that several steps share."""
