"""Records in object storage, changed by compare-and-set."""
