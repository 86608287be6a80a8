"""The life of an instance is that of a worker: it sends heartbeats, and leaves when it ends.

gunicorn lets requests finish before it ends a worker, for `--graceful-timeout` at most. A worker
that it has to kill then frees its slots after the threshold.
"""

from typing import Any


def post_worker_init(worker: Any) -> None:
    from distkit import leave_at_exit
    from examples.flask_app import counter

    leave_at_exit(counter)
