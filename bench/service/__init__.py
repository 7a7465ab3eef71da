"""Measure the running service: gateway, worker, webhooks, batches, kills."""
