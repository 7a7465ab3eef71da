"""The public surface: HTTP in, ledger and doorbell out. CPU only."""
