"""`counter.held` and `counter.limit` (R20): the shells around `distkit/core/holding.py`."""
