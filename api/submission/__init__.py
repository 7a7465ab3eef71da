"""Accept jobs and batches: validate, store, enqueue."""
