"""Every interleaving of a bounded world, breadth first, on the oracle's own machine.

`oracle.check.world` says what can happen, `oracle.check.properties` what must hold, `oracle.check.fast.reductions` which
states need not be told apart, and `oracle.check.fast.space` makes numbers of them. Here they are visited, once
each. Of each visited world its number is kept, and no more: when something is found, the way to it
is looked for backwards, level by level, and then walked again by worlds that are not reduced.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from oracle.check.fast.space import Space, Worlds
from oracle.check.fast.tables import Array
from oracle.check.properties import Violation
from oracle.check.world import (
    RIGHT,
    Bounds,
    Event,
    Protocol,
    World,
    events,
    inspect,
    perform,
    start,
)

AT_ONCE = 2**16
"""How many worlds are visited together."""

T = TypeVar("T")


class Found(NamedTuple):
    """What a search came to. `worlds` counts the states and all that they can be renamed to:
    without those that join later, these are the states before symmetry. `transitions` counts what
    can happen in each state, but for what leaves it as it is. `complete` says that all were
    visited. A violation comes with the events that lead to it, the shortest there are."""

    states: int
    worlds: int
    transitions: int
    depth: int
    seconds: float
    complete: bool
    violation: str = ""
    trace: tuple[Event, ...] = ()


class Progress(NamedTuple):
    """How far a search is. (Of the frontier, what was reached from two sides may count twice.)"""

    states: int
    frontier: int
    depth: int
    seconds: float


class Budget(NamedTuple):
    """When to stop: after so many states, or seconds."""

    states: float = float("inf")
    seconds: float = float("inf")


NO_BUDGET = Budget()


class Over(Exception):
    """It is time to stop: the budget has ended. `progress` may raise it too."""


class Wrong(Exception):
    """This world, or what can come next, violates a property."""

    def __init__(self, world: Worlds) -> None:
        super().__init__()
        self.world = world


class Search:
    """One breadth-first search. `levels` holds the worlds first reached at each depth."""

    def __init__(
        self,
        bounds: Bounds,
        protocol: Protocol = RIGHT,
        *,
        symmetry: bool = True,
        budget: Budget = NO_BUDGET,
        progress: Callable[[Progress], None] = lambda _: None,
    ) -> None:
        self.bounds, self.protocol = bounds, protocol
        self.budget, self.progress = budget, progress
        self.space = Space(bounds, protocol, symmetry=symmetry)
        first = self.space.split(self.space.reduced(start(bounds)))
        self.layout = self.space.layout().roomy()
        self.levels = [self.layout.pack(first)]
        self.reached: list[Array] = []
        """What comes next of the last level, of as much of it as was visited."""
        self.seen = self.levels[0]
        """All of the levels, in order."""
        self.transitions = 0
        self.worlds = 0

    def run(self) -> Found:
        self.began = time.perf_counter()
        violation, trace, over = "", tuple[Event, ...](), False
        collecting = gc.isenabled()
        gc.disable()  # all that is made here is kept, and nothing is circular
        try:
            while len(self.levels[-1]):
                self._visit_level()
        except Over:
            over = True
        except Wrong as wrong:
            trace, violation = self._tell(wrong.world)
        finally:
            if collecting:
                gc.enable()
        return Found(
            len(self.seen) + len(self._following()),
            self.worlds,
            self.transitions,
            len(self.levels) - (2 if not len(self.levels[-1]) else 1),
            time.perf_counter() - self.began,
            not violation and not over,
            violation,
            trace,
        )

    def visited(self) -> Iterator[World]:
        """All that was reached."""
        worlds = self._unpack(self.seen)
        return (self.space.world(worlds, place) for place in range(len(self.seen)))

    def _visit_level(self) -> None:
        """A violation in a state is looked for first: its history is shorter."""
        for first in range(0, len(self.levels[-1]), AT_ONCE):
            self._inspect(self.levels[-1][first : first + AT_ONCE])
        for first in range(0, len(self.levels[-1]), AT_ONCE):
            self._report()
            self._visit(self.levels[-1][first : first + AT_ONCE])
        following, self.reached = self._following(), []
        self.levels.append(following)
        self.seen = np.concatenate([self.seen, following])
        self.seen.sort(kind="stable")  # which merges what is sorted already

    def _following(self) -> Array:
        return np.unique(np.concatenate([np.array([], np.int64), *self.reached]))

    def _inspect(self, numbers: Array) -> None:
        worlds = self._unpack(numbers)
        self._try(self.space.inspect_quiescent, worlds)
        self.worlds += self.space.orbit_size(worlds)

    def _visit(self, numbers: Array) -> None:
        origins, after = self._try(self.space.successors, self._unpack(numbers))
        self.transitions += len(origins)
        reached = np.unique(self._pack(after))
        self.reached.append(reached[~_among(reached, self.seen)])

    def _try(self, what: Callable[[Worlds], T], worlds: Worlds) -> T:
        """Do something with all of them. Raises Wrong: with one that violates a property."""
        try:
            return what(worlds)
        except Violation:
            places = np.arange(len(worlds.servers))
            while len(places) > 1:
                some = places[: len(places) // 2]
                places = some if _violates(what, worlds.at(some)) else places[len(some) :]
            raise Wrong(worlds.at(places)) from None

    def _pack(self, worlds: Worlds) -> Array:
        """The worlds' numbers. All that is kept is laid out anew if there are too many parts."""
        parts, needed = self.space.split(worlds), self.space.layout()
        if not self.layout.covers(needed):
            old, self.layout = self.layout, needed.roomy()
            self.seen = self.layout.pack(old.unpack(self.seen))
            self.levels = [self.layout.pack(old.unpack(level)) for level in self.levels]
            self.reached = [self.layout.pack(old.unpack(some)) for some in self.reached]
        return self.layout.pack(parts)

    def _unpack(self, numbers: Array) -> Worlds:
        return self.space.join(self.layout.unpack(numbers))

    def _report(self) -> None:
        seconds = time.perf_counter() - self.began
        frontier = sum(map(len, self.reached))
        states = len(self.seen) + frontier
        self.progress(Progress(states, frontier, len(self.levels) - 1, seconds))
        if states > self.budget.states or seconds > self.budget.seconds:
            raise Over

    # --- The way to a violation ------------------------------------------------------------------

    def _tell(self, wrong: Worlds) -> tuple[tuple[Event, ...], str]:
        """The events from the start to the violation at this world, and what it says.

        The way is walked a second time by worlds that no reduction has touched: that they come to
        the same is what the reductions promise.
        """
        world, trace = start(self.bounds), []
        for number in self._way_to(wrong):
            event, world = self._step_to(world, number)
            trace.append(event)
        try:
            inspect(world, self.protocol)
        except Violation as violation:
            return tuple(trace), str(violation)
        for event in events(world):
            try:
                perform(world, event, self.protocol)
            except Violation as violation:
                return (*trace, event), str(violation)
        raise AssertionError("a reduction has made up a violation")

    def _way_to(self, world: Worlds) -> list[Worlds]:
        way: list[Worlds] = []
        for depth in range(len(self.levels) - 2, -1, -1):
            way.append(world)
            world = self._before(world, depth)
        return way[::-1]

    def _before(self, world: Worlds, depth: int) -> Worlds:
        """A world of this depth that this one can come after."""
        for first in range(0, len(self.levels[depth]), AT_ONCE):
            worlds = self._unpack(self.levels[depth][first : first + AT_ONCE])
            origins, after = self.space.successors(worlds)
            numbers = self._pack(after)
            found = origins[numbers == self._pack(world)]
            if len(found):
                return worlds.at(found[:1])
        raise AssertionError("a world that was reached from nowhere")

    def _step_to(self, world: World, number: Worlds) -> tuple[Event, World]:
        for event in events(world):
            after = perform(world, event, self.protocol)
            if self._pack(self.space.reduced(after)) == self._pack(number):
                return event, after
        raise AssertionError("a reduction has made up a state")


def _violates(what: Callable[[Worlds], object], worlds: Worlds) -> bool:
    try:
        what(worlds)
    except Violation:
        return True
    return False


def _among(numbers: Array, many: Array) -> NDArray[np.bool_]:
    """Which of the numbers are among the many; both are in order."""
    places = np.searchsorted(many, numbers)
    found: NDArray[np.bool_] = many[np.minimum(places, len(many) - 1)] == numbers
    return found


def explore(
    bounds: Bounds,
    protocol: Protocol = RIGHT,
    *,
    symmetry: bool = True,
    budget: Budget = NO_BUDGET,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Found:
    """Visit every state that can be reached; stop at the first violation, or when the budget
    ends."""
    return Search(bounds, protocol, symmetry=symmetry, budget=budget, progress=progress).run()
