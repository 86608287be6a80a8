"""What a heartbeat does besides being one: it looks after the counters that the instance remembers.

The rules this file keeps:
  * Each heartbeat looks at some of the counters that are not 0, in turn, so that every loss in
    Redis is found within a bounded time (R10).
  * A counter that has stayed 0 from one heartbeat to the next is let go (R18): the instance forgets
    it, and its slice goes. The counters that were touched longest ago go first.
  * A heartbeat costs nothing that grows with what is remembered, except once in a round: when all
    counters had their turn, their keys are sorted again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

LOOKS: Final = 10
"""At how many counters a heartbeat looks, of those that are not 0."""

RELEASES: Final = 90
"""How many counters a heartbeat lets go of, at most."""


class Memory(NamedTuple):
    """A slice as its instance knows it, as of the instance's own request `seq` (R10)."""

    epoch: int
    value: int
    seq: int


class Housekeeping:
    """Where an instance is with its rounds, and which of its counters are 0.

    Attributes:
        zeros: the remembered counters that are 0, as the replies said, in the order of the replies.
        unheard: the counters that are remembered as 0 because a request wrote them; its reply did
            not arrive yet. Their seq is lower than that of all others that are remembered.
        since: the last request of the heartbeat before. What has a later one was touched since.
    """

    zeros: dict[str, None]
    unheard: dict[str, None]
    since: int

    def __init__(self) -> None:
        self.zeros = {}
        self.unheard = {}
        self.since = 0
        self._ahead: list[str] = []  # what has still to be looked at in this round, the next last

    def forget(self, memory: Mapping[str, Memory]) -> None:
        """The instance has forgotten all but this, and nothing of this is unheard."""
        self.unheard = {}
        self.zeros = {key: None for key in self.zeros if key in memory}

    def plan(self, memory: Mapping[str, Memory]) -> tuple[list[str], list[str]]:
        """The counters that the next heartbeat looks at, and those that it lets go of."""
        let_go = self._idle(memory)
        if not self._ahead:
            counted = (key for key, mine in memory.items() if mine.value)
            self._ahead = sorted(counted, reverse=True)
        looks: list[str] = []
        while self._ahead and len(looks) < LOOKS:
            key = self._ahead.pop()
            mine = memory.get(key)
            if mine is not None and mine.value:
                looks.append(key)
        for key in let_go:
            self.unheard.pop(key, None)
            self.zeros.pop(key, None)
        return looks, let_go

    def _idle(self, memory: Mapping[str, Memory]) -> list[str]:
        """The counters that have been 0 since the heartbeat before, up to the limit, longest ago
        first. Those of one request are in the order of their keys."""
        found = [(memory[key].seq, key) for key in self.unheard if memory[key].seq <= self.since]
        for key in self.zeros:
            seq = memory[key].seq
            if seq > self.since or (len(found) >= RELEASES and seq > found[-1][0]):
                break
            found.append((seq, key))
        return [key for _, key in sorted(found)[:RELEASES]]
