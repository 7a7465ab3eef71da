"""Surface -> GLB, and USDZ."""

from worker.extraction.asset import Asset, Labels
from worker.extraction.pipeline import extract
from worker.extraction.produce import Product, produce

__all__ = ["Asset", "Labels", "Product", "extract", "produce"]
