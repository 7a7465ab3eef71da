"""Surface -> GLB."""
