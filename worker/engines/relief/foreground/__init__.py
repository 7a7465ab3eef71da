"""Cut the object out of its image."""
