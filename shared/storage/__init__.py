"""Ports of the object store and the job queue, and the key schema."""
