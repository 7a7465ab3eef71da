"""Surface -> GLB."""

from worker.extraction.asset import Asset, Labels
from worker.extraction.pipeline import extract

__all__ = ["Asset", "Labels", "extract"]
