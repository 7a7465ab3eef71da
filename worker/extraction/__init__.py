"""Surface -> GLB, and USDZ."""

from worker.extraction.export_asset import Product, produce, require_writers
from worker.extraction.model.asset import Asset, Labels
from worker.extraction.pipeline import extract

__all__ = ["Asset", "Labels", "Product", "extract", "produce", "require_writers"]
