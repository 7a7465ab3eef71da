"""The settings, the environment and the command line of the service."""
