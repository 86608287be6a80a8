"""Numbers for monitoring: of an instance's own work, and of the counters of a prefix.

`prometheus.py` and `opentelemetry.py` hand out the same numbers; both need the extra `metrics`.
`numbers.py` computes them and knows neither.
"""
