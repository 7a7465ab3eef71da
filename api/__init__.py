"""The HTTP gateway: accept jobs, store them, enqueue them, answer questions about them. CPU only."""
