"""The CPU engine: inflates the silhouette of the object in an image."""

from worker.engines.relief.engine import Relief

__all__ = ["Relief"]
