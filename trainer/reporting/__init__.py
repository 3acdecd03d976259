"""The report on a run: one page that needs nothing else, and its pictures."""
