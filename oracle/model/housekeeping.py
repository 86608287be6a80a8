"""What a heartbeat does besides being one: it looks after the counters that the instance remembers.

R10: every loss is found within a bounded time, because each heartbeat looks at some of the counters
in which the instance counts, in turn. R18: a counter that has stayed 0 from one heartbeat to the
next is let go: the instance forgets it, and its slice goes.
"""

from __future__ import annotations

from typing import NamedTuple

from oracle.model.instance import Instance

LOOKS = 10
"""At how many counters a heartbeat looks, of those that are not 0."""

RELEASES = 90
"""How many counters a heartbeat lets go of, at most."""


class Rounds(NamedTuple):
    """Where an instance is with its housekeeping.

    Attributes:
        ahead: the keys still to be looked at in this round: those that were not 0 when it began.
        since: the last request of the heartbeat before. What has a later one was touched since.
    """

    ahead: tuple[str, ...] = ()
    since: int = 0

    def after(self, instance: Instance) -> Rounds:
        """When the heartbeat is over, whatever came of it."""
        return self._replace(since=instance.seq)


class Plan(NamedTuple):
    """The counters that a heartbeat looks at, and those that it lets go of; the rounds then."""

    looks: tuple[str, ...]
    let_go: tuple[str, ...]
    rounds: Rounds


def plan(rounds: Rounds, instance: Instance) -> Plan:
    """What this heartbeat is to do. The counters that were touched longest ago are let go first."""
    memory = instance.memory
    idle = [key for key, mine in memory.items() if not mine.count and mine.seq <= rounds.since]
    let_go = tuple(sorted(idle, key=lambda key: (memory[key].seq, key))[:RELEASES])
    counted = {key for key, mine in memory.items() if mine.count}
    ahead, looks = rounds.ahead or tuple(sorted(counted)), list[str]()
    while ahead and len(looks) < LOOKS:
        if ahead[0] in counted:
            looks.append(ahead[0])
        ahead = ahead[1:]
    return Plan(tuple(looks), let_go, rounds._replace(ahead=ahead))
