"""Read the headers of image files."""
