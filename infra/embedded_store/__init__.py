"""The embedded object store: one SQLite file for records and small bodies, plain files for large bodies."""
