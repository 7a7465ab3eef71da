"""Run the service on Modal: images, functions, queue, invocations."""
