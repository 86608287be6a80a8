"""`leave_at_exit`: for processes whose end is not the end of a `with` block of yours."""

from __future__ import annotations

import atexit
import weakref

from distkit.counter import StrictInstanceAwareCounter

_registered: weakref.WeakSet[StrictInstanceAwareCounter] = weakref.WeakSet()


def leave_at_exit(counter: StrictInstanceAwareCounter) -> StrictInstanceAwareCounter:
    """Begin the life of an instance that ends with its process, and return the counter.

    It is `with counter:` for a worker that somebody else starts and stops: call it in the worker,
    in gunicorn's `post_worker_init`, for example. When the interpreter exits, the instance leaves:
    what it holds is free at once (R16). To call it again changes nothing.

    A process that is killed, or that ends by `os._exit`, does not get that far; what it held is
    free after the threshold. Python dies of SIGTERM that way unless somebody handles it, as
    gunicorn and uvicorn do. The processes of `multiprocessing` and of Celery's prefork pool end by
    `os._exit`: leave in their own hooks (Celery: `worker_process_shutdown`).

    A forked child becomes an instance of its own with its first call, and leaves when it exits.
    """
    driver = counter._driver
    if not driver.is_alive:  # it is in a child of a process that has called this
        driver.start()
    if counter not in _registered:
        _registered.add(counter)
        atexit.register(_leave, weakref.ref(counter))
    return counter


def _leave(ref: weakref.ref[StrictInstanceAwareCounter]) -> None:
    counter = ref()
    if counter is not None:
        counter.__exit__(None, None, None)
