"""The explorer, in its plainest form: visit every state of a bounded world, breadth first.

Read this file first. Everything else in this folder says what a world is; `oracle.check.fast` does
the same search, faster and in less memory, and is tested against this one.

A violation is found with the fewest events that lead to it, because states are visited in the order
of their distance from the first one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from oracle.check.events import Event
from oracle.check.properties import Violation
from oracle.check.state import RIGHT, Bounds, Protocol, World, start
from oracle.check.world import events, inspect, perform


class SearchResult(NamedTuple):
    """What a search came to.

    Attributes:
        worlds: the states that were visited.
        transitions: how many events lead from one of them to another state.
        depth: how many events the farthest state is away from the first one.
        violation: the property that does not hold, or nothing.
        trace: the events that lead to the violation.
    """

    worlds: Collection[World]
    transitions: int
    depth: int
    violation: str = ""
    trace: tuple[Event, ...] = ()

    @property
    def states(self) -> int:
        return len(self.worlds)


Origins = dict[World, tuple[World, Event] | None]
"""Every world that was reached: from which world, and by which event. None for the first one."""


def explore(bounds: Bounds, protocol: Protocol = RIGHT) -> SearchResult:
    """Visit every state that can be reached, and stop at the first violation."""
    origins: Origins = {start(bounds): None}
    level, depth, transitions = list(origins), 0, 0
    while True:
        for world in level:
            try:
                inspect(world, protocol)
            except Violation as violation:
                trace = _trace(origins, world)
                return SearchResult(origins.keys(), transitions, depth, str(violation), trace)
        next_level = []
        for world in level:
            for event in events(world):
                try:
                    after = perform(world, event, protocol)
                except Violation as violation:
                    trace = (*_trace(origins, world), event)
                    return SearchResult(origins.keys(), transitions, depth, str(violation), trace)
                transitions += after != world
                if after not in origins:
                    origins[after] = world, event
                    next_level.append(after)
        if not next_level:
            return SearchResult(origins.keys(), transitions, depth)
        level, depth = next_level, depth + 1


def _trace(origins: Origins, world: World) -> tuple[Event, ...]:
    """The events that led to a world, followed backwards."""
    trace = list[Event]()
    while (origin := origins[world]) is not None:
        world, event = origin
        trace.append(event)
    return tuple(reversed(trace))
