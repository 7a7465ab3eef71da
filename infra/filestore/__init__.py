"""An object store in a folder."""
