"""One job, from start to finish."""
