"""The CPU engine: inflates the silhouette of a picture."""
