"""The driver of a synchronous counter whose prefix is divided (R21).

Requests to several partitions are in flight at the same time, in a pool of threads that is made
when a call first needs it. The caller's own thread does its part of the work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, TypeVar

from distkit.base import Options
from distkit.core.instance import Reply, Request
from distkit.core.operations import Step
from distkit.keys import Keyspace
from distkit.partitions.shared import Family, Partitions, begin_to_beat, is_resting, results
from distkit.threads import ThreadDriver

T = TypeVar("T")

MOST_THREADS: Final = 32
"""How many partitions are asked at the same time, besides the one that the caller's thread asks."""


class ThreadPartition(ThreadDriver):
    """The driver of one partition."""

    def __init__(self, client: Any, family: Family, space: Keyspace, options: Options) -> None:
        self._family = family
        super().__init__(client, space, options)
        self._send_unmarked = self.send
        self.send: Callable[[Request], Reply] = self._send_marked

    def new_name(self) -> str:
        return self._family.name

    def heartbeat(self) -> None:
        if begin_to_beat(self):
            super().heartbeat()

    def clean_up(self) -> None:
        if not is_resting(self):
            super().clean_up()

    def _send_marked(self, request: Request) -> Reply:
        if self._family.needs_mark(request):
            mark = self._family.mark()
            self.transport.inquire(mark)
            self._family.see(mark)
        return self._send_unmarked(request)


class ThreadPartitions(Partitions[ThreadPartition]):
    """The drivers of all partitions, as the counter uses them: as if they were one."""

    _pool: ThreadPoolExecutor | None = None
    _pool_of = 0  # the process whose threads the pool has

    def make(self, space: Keyspace, options: Options) -> ThreadPartition:
        return ThreadPartition(self.client, self.family, space, options)

    # --- Life ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the instance's life: send heartbeats from now on, where something is held."""
        self.begin()

    def stop(self) -> None:
        """End it (R16), in all partitions. What goes wrong is logged."""
        self.is_alive = False
        self._all(driver.stop for driver in self.used())
        pool, self._pool = self._pool, None
        if pool is not None and self._pool_of == os.getpid():
            pool.shutdown(wait=False)

    # --- Calls -----------------------------------------------------------------------------------

    def one(self, todo: tuple[Step]) -> Any:
        """Run the step and return its result."""
        return self.at(todo[0].key).one(todo)

    def batch(self, todo: Sequence[Step]) -> list[Any]:
        """Run the steps and return their results."""
        split = self.split(todo)
        parts = split.parts.items()
        return results(
            split, self._all(partial(self.driver(n).outcomes, steps) for n, steps in parts)
        )

    def heartbeat(self) -> None:
        self._all(driver.heartbeat for driver in self.used())

    def clear_on_instance(self) -> None:
        self._all(driver.clear_on_instance for driver in self.used())

    def clear(self) -> None:
        self._all(driver.clear for driver in self.every())

    # --- All at once -----------------------------------------------------------------------------

    def _all(self, jobs: Iterable[Callable[[], T]]) -> list[T]:
        """Do all of this at the same time, and return the results in order. If any fails, the first
        error is raised once all of them are done."""
        todo = [*jobs]
        if not todo:
            return []
        mine, *others = todo
        futures = [self._threads().submit(job) for job in others]
        error: Exception | None = None
        done: list[T] = []
        try:
            done.append(mine())
        except Exception as failure:
            error = failure
        for future in futures:
            try:
                done.append(future.result())
            except Exception as failure:
                error = error or failure
        if error is not None:
            raise error
        return done

    def _threads(self) -> ThreadPoolExecutor:
        """The pool. A forked child makes its own: it inherits no threads."""
        if self._pool is None or self._pool_of != os.getpid():
            most = min(MOST_THREADS, self.partitions - 1)
            self._pool = ThreadPoolExecutor(most, f"distkit {self.family.space.prefix}")
            self._pool_of = os.getpid()
        return self._pool
