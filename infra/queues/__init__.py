"""Job queues in memory and over the store."""
