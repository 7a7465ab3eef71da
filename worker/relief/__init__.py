"""The CPU engine: inflates the silhouette of a picture."""

from worker.relief.engine import Relief

__all__ = ["Relief"]
