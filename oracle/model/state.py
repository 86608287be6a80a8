"""The server's state: all that Redis holds of one prefix, stated plainly.

Nothing is cached: a total is the sum of its slices (R7), and a dead slice is found by looking (R8).
"""

from __future__ import annotations

from typing import NamedTuple

from oracle.model.maps import Map
from oracle.model.operations import View


class Slice(NamedTuple):
    """One instance's share of one counter, with the completion record of its last write (R11)."""

    count: int  # type: ignore[assignment]
    epoch: int
    seq: int
    before: View


class Counter(NamedTuple):
    """R6: an epoch that only grows, and at most one slice per instance."""

    epoch: int = 0
    slices: Map[str, Slice] = Map()

    @property
    def total(self) -> int:
        """R7: the sum of the current slices; a stale slice counts as 0."""
        return sum(s.count for s in self.slices.values() if s.epoch == self.epoch)

    def own(self, instance: str) -> int:
        mine = self.slices.get(instance)
        return mine.count if mine and mine.epoch == self.epoch else 0

    def view(self, instance: str) -> View:
        return View(self.total, self.epoch, self.own(instance))


class Session(NamedTuple):
    """R4: when the instance was last heard; which session it is; the last request it made."""

    heartbeat: int
    number: int
    seq: int


class Server(NamedTuple):
    """All that Redis holds of one prefix. `clock` is None until the first request."""

    clock: int | None = None
    wall: int = 0
    opened: int = 0
    sessions: Map[str, Session] = Map()
    counters: Map[str, Counter] = Map()

    def slice_of(self, key: str, instance: str) -> Slice | None:
        counter = self.counters.get(key)
        return counter.slices.get(instance) if counter else None
