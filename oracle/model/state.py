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

    `seq` is the request that wrote it. `session` is the session that made it or restored it: the
    slice counts only while its owner has that session (R17). `before` is the completion record of
    request `seq`: the view just before its steps ran, from which a retry is answered (R11).
    """

    count: int  # type: ignore[assignment]
    epoch: int
    seq: int
    session: int
    before: View


class Counter(NamedTuple):
    """A counter has an epoch, which only grows, and at most one slice per instance (R6). The server
    keeps only counters that have a slice (R18)."""

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

    `heartbeat` is when the instance was last heard (R4), and `threshold` how long it may be silent
    (R5). `number` identifies the session, and `seq` is the last request that the server accepted
    from it (R11). `fresh` says that this request was the open that made the session.
    """

    heartbeat: int
    threshold: int
    number: int
    seq: int
    fresh: bool = False


HERE = 0
"""What `Server.keys` says about a counter that the server keeps."""


class Server(NamedTuple):
    """Everything Redis holds for one prefix.

    Attributes:
        clock: the server's time T in ms (R3); None before the first request.
        wall: the wall clock that the last request brought.
        due: the latest T by which an instance has promised to be heard (R19); None if none has.
        opened: the number of the newest session. It survives every loss: the script takes numbers
            from the server's own clock, so that it never gives one twice.
        sessions: by instance.
        counters: those that have a slice, by key.
        keys: `HERE` for each counter that has a slice; for one whose last slice is gone, its epoch,
            unless that is 0 (R18).
    """

    clock: int | None = None
    wall: int = 0
    due: int | None = None
    opened: int = 0
    sessions: Map[str, Session] = Map()
    counters: Map[str, Counter] = Map()
    keys: Map[str, int] = Map()

    def counter(self, key: str) -> Counter:
        """The counter as a request finds it. One without slices has an epoch at most."""
        return self.counters.get(key) or Counter(self.keys.get(key, 0))

    def slice_of(self, key: str, instance: str) -> Slice | None:
        counter = self.counters.get(key)
        return counter.slices.get(instance) if counter else None
