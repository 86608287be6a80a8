"""The server's state: everything Redis holds for one prefix.

Nothing is cached. A total is computed from the slices each time (R7), and dead slices are found by
checking every slice (R8). Production caches both; comparing it with this state tests the caches.
"""

from __future__ import annotations

from typing import NamedTuple

from oracle.model.maps import Map
from oracle.model.operations import View


class Slice(NamedTuple):
    """One instance's share of one counter.

    `seq` is the request that wrote it. `before` is that request's completion record: the view just
    before its steps ran, from which a retry is answered (R11).
    """

    count: int  # type: ignore[assignment]
    epoch: int
    seq: int
    before: View


class Counter(NamedTuple):
    """A counter has an epoch, which only grows, and at most one slice per instance (R6)."""

    epoch: int = 0
    slices: Map[str, Slice] = Map()

    @property
    def total(self) -> int:
        """The sum of the slices in the current epoch; a stale slice counts as 0 (R6, R7)."""
        return sum(s.count for s in self.slices.values() if s.epoch == self.epoch)

    def own(self, instance: str) -> int:
        """The instance's count, which is 0 if its slice is missing or stale."""
        mine = self.slices.get(instance)
        return mine.count if mine and mine.epoch == self.epoch else 0

    def view(self, instance: str) -> View:
        """What the instance sees of this counter."""
        return View(self.total, self.epoch, self.own(instance))


class Session(NamedTuple):
    """The server's entry for one instance.

    `heartbeat` is when the instance was last heard (R4), `number` identifies the session, and `seq`
    is the last request the server accepted from it (R11).
    """

    heartbeat: int
    number: int
    seq: int


class Server(NamedTuple):
    """Everything Redis holds for one prefix.

    `clock` is the server's time T in ms, None before the first request. `wall` is the wall clock
    that the last request brought, and `opened` the number of the newest session.
    """

    clock: int | None = None
    wall: int = 0
    opened: int = 0
    sessions: Map[str, Session] = Map()
    counters: Map[str, Counter] = Map()

    def slice_of(self, key: str, instance: str) -> Slice | None:
        counter = self.counters.get(key)
        return counter.slices.get(instance) if counter else None
