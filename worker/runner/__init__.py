"""Run one job: claim, sample, extract, store, finish."""
