"""Count unfinished jobs, and estimate when a queued one starts."""
