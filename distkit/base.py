"""What the synchronous counter and the asyncio one share: arguments, identity, and forks.

Each counter has a driver (`threads.py`, `tasks.py`). The driver queues the callers' steps, sends
the requests of the instance, and hands out the results.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
import uuid
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from distkit.core import operations
from distkit.core.batching import Queue
from distkit.core.holding import Books
from distkit.core.instance import Instance
from distkit.core.operations import Step
from distkit.core.pulse import Pulse
from distkit.keys import LIMIT, Keyspace, checked_int, checked_name


class Driver(ABC):
    """Gets an instance's calls executed, in groups, by the threads or tasks that make them.

    Args:
        client: the redis-py client.
        prefix, threshold_ms, instance_id: as for the counter.

    Attributes:
        client: the redis-py client.
        space: the Redis keys of the prefix.
        transport: sends a request. It can be replaced.
        instance: this instance's side of the protocol.
        queue: the callers that wait.
        books: who holds what (R20).
        pulse: when the next heartbeat is due.
        is_alive: whether the program is inside the counter's `with` block.
    """

    client: Any
    space: Keyspace
    transport: Any
    instance: Instance
    queue: Queue
    books: Books
    pulse: Pulse
    is_alive: bool

    def __init__(
        self, client: object, prefix: str, threshold_ms: int, instance_id: str | None
    ) -> None:
        name = str(uuid.uuid4()) if instance_id is None else instance_id
        threshold = checked_int(threshold_ms, "dead_instance_threshold_ms")
        if not 1 <= threshold <= LIMIT:
            raise ValueError(
                f"dead_instance_threshold_ms must be from 1 to 2^53 - 1, not {threshold}"
            )
        self.client = client
        self.space = Keyspace(prefix)
        # An earlier instance may have used an id that was given: its requests had low numbers.
        seq = 0 if instance_id is None else secrets.randbits(40)
        self.instance = Instance(self.space, checked_name(name, "instance_id"), threshold, seq)
        self.pulse = Pulse(threshold)
        self.monotonic: Callable[[], float] = time.monotonic
        self.open_books()
        self.is_alive = False
        _drivers.add(self)

    @abstractmethod
    def reset_after_fork(self) -> None:
        """In a forked child: become a new instance, with a new id and nothing remembered."""
        self.instance = Instance(self.space, str(uuid.uuid4()), self.instance.threshold_ms)
        self.open_books()

    def open_books(self) -> None:
        """Nobody holds anything, and nobody waits."""
        self.books = Books(self.monotonic, threading.Lock(), self.pulse.interval_s)
        self.queue = Queue(self.books.errand)

    def enter(self) -> None:
        """Begin a life: RuntimeError if it has begun already."""
        if self.is_alive:
            raise RuntimeError("this instance is alive already: its `with` block is inside itself")
        self.is_alive = True

    def clearing_of_this_instance(self) -> list[Step]:
        """A step for every key of which this instance may have a slice."""
        # Also where 0 is remembered: an unanswered call may have left something there. A copy of
        # the memory, because another thread may be counting.
        keys = sorted(self.instance.memory.copy())
        return [operations.set_on_instance(key, 0) for key in keys]

    def clearing(self, known: set[str]) -> list[Step]:
        """A step for every key that Redis knows or this instance remembers."""
        keys = sorted({*known, *list(self.instance.memory)})
        return [operations.set(key, 0) for key in keys]


class CounterBase:
    """A counter's identity. It belongs to one process and one object, so it cannot be copied."""

    _driver: Driver

    @property
    def instance_id(self) -> str:
        """The name of this instance."""
        return self._driver.instance.instance_id

    def __repr__(self) -> str:
        kind = f"{type(self).__module__}.{type(self).__name__}"
        return f"<{kind} {self._driver.space.prefix!r} instance {self.instance_id!r}>"

    def __reduce_ex__(self, _protocol: object) -> str | tuple[Any, ...]:
        """Refuse `copy` and `pickle`: two objects that act as one instance would lose counts."""
        raise TypeError(
            "a counter cannot be copied or pickled: two copies would act as one instance and lose "
            "counts. Create another counter with the same prefix instead"
        )


_drivers: weakref.WeakSet[Driver] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """Parent and child must not act as one instance: each would get the other's replies (R11)."""
    for driver in list(_drivers):
        driver.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
