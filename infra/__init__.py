"""The only code that knows Modal, S3 and the environment."""
