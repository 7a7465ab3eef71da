"""The API's resources: one module with its handles and operations for each."""
