"""Build HTTP responses: jobs, problem details, static assets."""
