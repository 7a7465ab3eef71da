"""Every published number, as a command."""
