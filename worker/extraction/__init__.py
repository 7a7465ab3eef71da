"""Surface -> GLB, and USDZ."""

from worker.extraction.export_asset import ExportedAsset, export, require_writers
from worker.extraction.model.asset import Asset, Provenance
from worker.extraction.pipeline import extract

__all__ = ["Asset", "ExportedAsset", "Provenance", "export", "extract", "require_writers"]
