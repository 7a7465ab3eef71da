"""Models and rules without I/O: jobs, batches, parameters, signatures."""
