"""Check a deployment before it serves: store, Modal, weights."""
