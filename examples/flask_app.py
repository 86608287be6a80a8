"""Flask under gunicorn, with or without `--preload`: at most 10 reports at a time over all workers.

    gunicorn --config examples/gunicorn_conf.py --preload examples.flask_app:app

The counter is made when this module is imported, with `--preload` in the master process. Each
worker is a process forked from it, and becomes an instance of its own. Its life begins and ends
with the worker: see `post_worker_init` in gunicorn_conf.py.
"""

from __future__ import annotations

import os
import time

import flask
import redis

from distkit import LimitReached, StrictInstanceAwareCounter

counter = StrictInstanceAwareCounter(
    redis.Redis.from_url(os.environ.get("REDIS_URL", "redis://localhost")),
    "flask",
    dead_instance_threshold_ms=int(os.environ.get("THRESHOLD_MS", "30000")),
)
reports = counter.limit("reports", int(os.environ.get("MOST", "10")))
app = flask.Flask(__name__)


@app.get("/report")
@reports.slot(blocking=False)
def report() -> str:
    time.sleep(float(flask.request.args.get("seconds", "0")))
    return f"{os.getpid()}"


@app.get("/status")
def status() -> str:
    return f"{reports.available()}"


@app.errorhandler(LimitReached)
def full(_: LimitReached) -> tuple[str, int]:
    return "full", 503
