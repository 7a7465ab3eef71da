"""The commands of `trellis2`, one file each."""
