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
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from distkit.core.batching import Desk, Queue
from distkit.core.holding import Books
from distkit.core.instance import Instance, Purpose, Request
from distkit.core.operations import LOOK, Step
from distkit.core.pulse import Pulse, Report, promise_ms
from distkit.errors import NotExecutedError
from distkit.events import Observer, OnEvent
from distkit.keys import (
    LIMIT,
    Keyspace,
    checked_int,
    checked_label,
    checked_name,
    default_label,
)
from distkit.redis.meaning import Abandoned
from distkit.redis.script import Clock, Sweep, Wall
from distkit.redis.settings import deadline_s
from distkit.tracing import OnRequest

if TYPE_CHECKING:
    from typing_extensions import Self  # typing has it from Python 3.11 on


class Options(NamedTuple):
    """The arguments of a counter's constructor, after the client and the prefix."""

    threshold_ms: int
    instance_id: str | None
    reply_timeout_ms: int | None
    on_request: OnRequest | None
    on_event: OnEvent | None
    clock_ms: Clock | None
    label: str | None

    def deadline(self) -> float:
        """How long a transmission waits for its reply, in seconds."""
        return deadline_s(self.reply_timeout_ms, self.threshold_ms)

    def wall(self) -> Wall:
        return Wall(self.clock_ms)


SWEEP: Final = 10
"""At how many counters that an instance does not remember it looks with each heartbeat."""

LONG_SWEEP: Final = 100
LONG_SWEEPS: Final = 20
"""While it finds what crashed instances left: at how many at once, and how often."""

NOTHING: Final = (0, 0)
"""The outcome of a look at a counter that nobody counts in: it has vanished, if all have left."""


class Driver(ABC):
    """Gets an instance's calls executed, in groups, by the threads or tasks that make them.

    Args:
        client: the redis-py client.
        prefix: the namespace; or the Redis keys of a partition (R21).
        options: the other arguments of the counter.

    Attributes:
        client: the redis-py client.
        clock_ms: a test's wall clock; None if the server's is used.
        space: the Redis keys of the prefix.
        transport: the way to Redis.
        instance: this instance's side of the protocol.
        queue: the callers that wait.
        books: who holds what (R20).
        pulse: how long to wait between heartbeats.
        report: what the log is told.
        observer: whom events are told to.
        sweep: how far the search for what crashed instances left has come.
        is_alive: whether the program is inside the counter's `with` block.
    """

    client: Any
    clock_ms: Clock | None
    space: Keyspace
    transport: Any
    instance: Instance
    queue: Queue
    books: Books
    pulse: Pulse
    report: Report
    observer: Observer
    sweep: Sweep
    is_alive: bool
    partitions: Final[int] = 1

    def __init__(self, client: object, prefix: str | Keyspace, options: Options) -> None:
        given = options.instance_id
        name = str(uuid.uuid4()) if given is None else given
        threshold = checked_int(options.threshold_ms, "dead_instance_threshold_ms")
        if not 1 <= threshold <= LIMIT:
            raise ValueError(
                f"dead_instance_threshold_ms must be from 1 to 2^53 - 1, not {threshold}"
            )
        self.client = client
        self.clock_ms = options.clock_ms
        self.space = prefix if isinstance(prefix, Keyspace) else Keyspace(prefix)
        # An earlier instance may have used an id that was given: its requests had low numbers.
        seq = 0 if given is None else secrets.randbits(40)
        self._label = None if options.label is None else checked_label(options.label)
        self.instance = Instance(
            self.space, checked_name(name, "instance_id"), threshold, seq, self._label_now()
        )
        self.sweep = Sweep(self.space)
        self.pulse = Pulse(threshold)
        self.monotonic: Callable[[], float] = time.monotonic
        self.open_books()
        self.report = Report(name)
        self.observer = Observer(options.on_event)
        self.is_alive = False
        _drivers.add(self)

    def heard(self, request: Request) -> None:
        """A request was answered, and the instance has taken the reply."""
        self.observer.heard(self.instance, request)
        if request.purpose is not Purpose.CALL:
            self.report.putting_back(self.instance.to_put_back)

    def conclude(self, request: Request, error: Exception) -> None:
        """End the call with what ended the request. If a copy of it may have been executed, or no
        server could be reached, the callers get an error that says so. Otherwise they get this
        error itself: the server refused the request, or nothing was sent."""
        if isinstance(error, Abandoned):
            self.instance.give_up(error.__cause__)
            self.observer.got_no_reply(self.instance, error.__cause__)
        elif request.arrived:
            self.instance.give_up(error)
        else:
            self.instance.refuse(error)

    def hand_out(self, desk: Desk) -> None:
        """A group's call is done: give each caller its outcomes, and tell what is owed."""
        self.queue.hand_out(desk)
        news = self.books.news
        while news:
            self.observer.settled(self.instance, *news.popleft())

    @abstractmethod
    def reset_after_fork(self) -> None:
        """In a forked child: become a new instance, with a new id and nothing remembered."""
        threshold_ms = self.instance.threshold_ms
        self.instance = Instance(self.space, self.new_name(), threshold_ms, label=self._label_now())
        self.sweep = Sweep(self.space)
        if self.is_alive:
            self.instance.promise_ms = promise_ms(threshold_ms)
        self.open_books()
        self.report = Report(self.instance.instance_id)
        self.observer.reset()

    def new_name(self) -> str:
        """The id of a new instance."""
        return str(uuid.uuid4())

    @property
    def instance_id(self) -> str:
        return self.instance.instance_id

    @property
    def prefix(self) -> str:
        return self.space.prefix

    def at(self, key: object) -> Self:
        """The driver of the partition to which a key belongs (R21): here there is only one."""
        return self

    def open_books(self) -> None:
        """Nobody holds anything, and nobody waits."""
        self.books = Books(self.monotonic, threading.Lock(), self.pulse.interval_s)
        self.queue = Queue(self.books.errand)

    def enter(self) -> None:
        """Begin a life: RuntimeError if it has begun already."""
        if self.is_alive:
            raise RuntimeError("this instance is alive already: its `with` block is inside itself")
        self.is_alive = True
        self.instance.promise_ms = promise_ms(self.instance.threshold_ms)

    def _label_now(self) -> str:
        return default_label() if self._label is None else self._label

    def unknown_counters(self, most: int) -> list[Step]:
        """A look at some of the counters that the sweep has found and this instance does not
        remember."""
        memory = self.instance.memory
        return [Step(key, LOOK) for key in self.sweep.take(most) if key not in memory]


class CounterBase:
    """A counter's identity. It belongs to one process and one object, so it cannot be copied."""

    _driver: Any

    @property
    def instance_id(self) -> str:
        """The name of this instance."""
        name: str = self._driver.instance_id
        return name

    def __repr__(self) -> str:
        kind = f"{type(self).__module__}.{type(self).__name__}"
        return f"<{kind} {self._driver.prefix!r} instance {self.instance_id!r}>"

    def __reduce_ex__(self, _protocol: object) -> str | tuple[Any, ...]:
        """Refuse `copy` and `pickle`: two objects that act as one instance would lose counts."""
        raise TypeError(
            "a counter cannot be copied or pickled: two copies would act as one instance and lose "
            "counts. Create another counter with the same prefix instead"
        )


def not_scanned(end: Abandoned) -> NotExecutedError:
    """The error of a `clear` that could not learn which keys there are."""
    return NotExecutedError(f"no reply from Redis ({end.__cause__}): nothing was deleted")


_drivers: weakref.WeakSet[Driver] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    """Parent and child must not act as one instance: each would get the other's replies (R11)."""
    for driver in list(_drivers):
        driver.reset_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
