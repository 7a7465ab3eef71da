"""The API's resources as objects with methods."""
