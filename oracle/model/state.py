"""The server's state: all that Redis holds of one prefix, stated plainly.

Nothing is cached: a total is the sum of its slices (R7), and a dead slice is found by looking (R8).
"""

from __future__ import annotations

from typing import NamedTuple

from oracle.model.maps import Map
from oracle.model.operations import View


class Slice(NamedTuple):
    """One instance's share of one counter. It belongs to the session that made it or put it back,
    and counts only while that is its owner's session (R17). `before` is the completion record of
    its last write (R11)."""

    count: int  # type: ignore[assignment]  # it hides tuple.count, which nobody needs
    epoch: int
    seq: int
    session: int
    before: View


class Counter(NamedTuple):
    """R6: an epoch that only grows, and at most one slice per instance. A counter that is kept has
    at least one slice (R18)."""

    epoch: int = 0
    slices: Map[str, Slice] = Map()

    @property
    def total(self) -> int:
        """R7: the sum of the current slices; a stale slice counts as 0."""
        return sum(s.count for s in self.slices.values() if s.epoch == self.epoch)

    def own(self, instance: str) -> int:
        """The count of this instance's slice; 0 if it has none, or a stale one."""
        mine = self.slices.get(instance)
        return mine.count if mine and mine.epoch == self.epoch else 0

    def view(self, instance: str) -> View:
        return View(self.total, self.epoch, self.own(instance))


class Session(NamedTuple):
    """R4, R5: when the instance was last heard, and for how long it may be silent; which session it
    is; the last request that it made; and whether that was the one that opened it."""

    heartbeat: int
    threshold: int
    number: int
    seq: int
    fresh: bool = False


HERE = 0
"""In `Server.keys`: the counter is there."""


class Server(NamedTuple):
    """All that Redis holds of one prefix.

    Attributes:
        clock: R3's time; None until the first request.
        wall: the wall clock at the last request.
        due: R19: the latest time by which an instance has promised to be heard; None if none has.
        opened: the last session number. It survives whatever is lost: the script takes numbers from
            the server's own clock, so that none is given twice.
        sessions: by instance.
        counters: those that have a slice, by key.
        keys: for each known counter HERE; or, if its last slice is gone, its epoch (R18).
    """

    clock: int | None = None
    wall: int = 0
    due: int | None = None
    opened: int = 0
    sessions: Map[str, Session] = Map()
    counters: Map[str, Counter] = Map()
    keys: Map[str, int] = Map()

    def counter(self, key: str) -> Counter:
        """The counter as a request finds it: without slices, one has at most an epoch."""
        return self.counters.get(key) or Counter(self.keys.get(key, 0))
