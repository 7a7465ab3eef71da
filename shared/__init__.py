"""The language that gateway and worker both speak; imports neither."""
