"""What stands in for Redis, with a clock that a test moves and a network that it can cut.

A failure says what a request comes to, as seen by the counter that made it:

    server.go_down()                       # until `come_back()`: NotExecutedError
    server.fail_next(NOT_EXECUTED)         # the next call does not get there
    server.fail_next(LOST_REPLY)           # it is executed, and OutcomeUnknownError
    server.fail_next(LOST_REQUEST)         # it is not, and the caller cannot tell either
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from oracle import model
from oracle.in_memory.types import registered

NOT_EXECUTED = "not executed"
LOST_REPLY = "lost reply"
LOST_REQUEST = "lost request"
FAILURES = (NOT_EXECUTED, LOST_REPLY, LOST_REQUEST)
"""What `fail_next` understands."""


class InMemoryServer:
    """Stands in for Redis: the state of every prefix, and a wall clock in ms.

    Args:
        wall_ms: what the wall clock shows at first.

    Attributes:
        wall_ms: the wall clock.
        is_down: whether no call gets through at present.
        changed: notified whenever something may have changed for those that wait for slots.
    """

    wall_ms: int
    is_down: bool
    changed: threading.Condition

    def __init__(self, wall_ms: int = 0) -> None:
        self.wall_ms = wall_ms
        self.is_down = False
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self._prefixes: dict[str, model.Server] = {}
        self._divided: dict[str, int] = {}
        self._failures: deque[str] = deque()
        self._watchers: dict[Callable[[], None], None] = {}

    # --- Time and loss ---------------------------------------------------------------------------

    def advance(self, ms: int) -> None:
        """Move the wall clock by `ms`. A negative `ms` moves it back, which ages nobody (R3)."""
        self.wall_ms += ms
        self.notify()

    def flush(self) -> None:
        """Lose everything, as `FLUSHALL` does."""
        self._prefixes.clear()
        self._divided.clear()
        self.notify()

    # --- Failures --------------------------------------------------------------------------------

    def go_down(self) -> None:
        """Begin an outage: every call raises NotExecutedError until `come_back`."""
        self.is_down = True

    def come_back(self) -> None:
        """End the outage. Nothing was lost; call `flush` too if it was."""
        self.is_down = False
        self.notify()

    @contextmanager
    def outage(self) -> Iterator[None]:
        """An outage inside the `with` block."""
        self.go_down()
        try:
            yield
        finally:
            self.come_back()

    def fail_next(self, *failures: str) -> None:
        """Have the next calls fail, the first with the first of these, and so on.

        Args:
            failures: NOT_EXECUTED, LOST_REPLY or LOST_REQUEST.
        """
        unknown = [failure for failure in failures if failure not in FAILURES]
        if unknown:
            raise ValueError(f"a failure is one of {FAILURES}, not {unknown[0]!r}")
        self._failures.extend(failures)

    def take_failure(self) -> str | None:
        """What the call that is made now comes to; None: it gets through."""
        if self.is_down:
            return NOT_EXECUTED
        return self._failures.popleft() if self._failures else None

    # --- State -----------------------------------------------------------------------------------

    def state(self, prefix: str) -> model.Server:
        """The model's state of one prefix, for reading."""
        return self._prefixes.get(prefix, model.Server())

    def keep(self, prefix: str, state: model.Server) -> None:
        """Replace the state of one prefix. Counters use it, and tests that set a scene."""
        self._prefixes[prefix] = state

    def existing(self, prefix: str) -> set[str]:
        """The keys of all counters that exist (R18)."""
        return model.existing_counters(self.state(prefix))

    def claim(self, prefix: str, partitions: int) -> None:
        """R21: note that the prefix is divided into so many partitions; PartitionsError if it is
        divided otherwise already."""
        if not self.is_down:
            there = self._divided.setdefault(prefix, partitions)
            if there != partitions:
                raise registered().partitions_error(prefix, there, partitions)

    # --- Those that wait -------------------------------------------------------------------------

    def watch(self, watcher: Callable[[], None]) -> None:
        """Call this whenever something may have changed, until `unwatch`."""
        self._watchers[watcher] = None

    def unwatch(self, watcher: Callable[[], None]) -> None:
        self._watchers.pop(watcher, None)

    def notify(self) -> None:
        """Something may have changed for those that wait for slots."""
        with self.changed:
            self.changed.notify_all()
            for watcher in list(self._watchers):
                watcher()
