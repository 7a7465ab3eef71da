"""The service's own commands of `trellis2`: serve, keys, demo, doctor."""
