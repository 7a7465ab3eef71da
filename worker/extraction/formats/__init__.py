"""Write and validate GLB, meshopt GLB and USDZ."""
