"""Celery: at most 2 exports at a time over the whole cluster, however many workers there are.

    celery -A examples.celery_worker worker

A task that finds no slot is put back and tried again. A worker that is killed frees its slots after
the threshold. The processes of the prefork pool end without `atexit`; their own hooks say when.
"""

from __future__ import annotations

import os
import time
from typing import Any

import celery
import celery.signals
import redis

from distkit import StrictInstanceAwareCounter

URL = os.environ.get("REDIS_URL", "redis://localhost")
app = celery.Celery("examples", broker=URL, backend=URL)
counter = StrictInstanceAwareCounter(redis.Redis.from_url(URL), "celery")
exports = counter.limit("exports", int(os.environ.get("MOST", "2")))


@celery.signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def begin(**_: Any) -> None:
    counter.__enter__()


@celery.signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def end(**_: Any) -> None:
    counter.__exit__(None, None, None)


@app.task(bind=True, max_retries=None)  # type: ignore[untyped-decorator]
def export(self: Any, seconds: float) -> int:
    """Returns how many exports were under way when it ran."""
    if not exports.acquire(blocking=False):
        raise self.retry(countdown=0.2)
    try:
        time.sleep(seconds)
        return counter.get("exports").cumulative
    finally:
        exports.release()
