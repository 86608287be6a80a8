"""Programs that hold (R20), each run by a test in `tests/examples/`. REDIS_URL: where Redis is."""
