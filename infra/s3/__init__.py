"""An object store over any S3-compatible service."""
