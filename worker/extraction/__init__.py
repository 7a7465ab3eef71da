"""Surface -> GLB, and USDZ."""

from worker.extraction.asset import Asset, Labels
from worker.extraction.pipeline import extract
from worker.extraction.produce import Product, produce, require_writers

__all__ = ["Asset", "Labels", "Product", "extract", "produce", "require_writers"]
