"""Warp set-up, and kernels that several phases share."""
