"""Runnable comparisons that print ratios within one run; `python -m benchmarks.NAME`."""
