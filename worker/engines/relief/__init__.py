"""The CPU engine: inflates the silhouette of a picture."""

from worker.engines.relief.engine import Relief

__all__ = ["Relief"]
