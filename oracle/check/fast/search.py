"""The search of `oracle.check.search`, on many states at a time and in little memory.

`oracle.check.fast.space` has the states as numbers. Only the number of each visited state is kept.
When something is found, the trace is reconstructed backwards, level by level; then it is replayed
on worlds that no reduction has touched, so that it is a trace of the world itself.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from oracle.check.events import Event
from oracle.check.fast.parts import Worlds
from oracle.check.fast.space import Space
from oracle.check.fast.tables import Array
from oracle.check.properties import Violation
from oracle.check.state import RIGHT, Bounds, Protocol, World, start
from oracle.check.world import events, inspect, perform

AT_ONCE = 2**16
"""How many states are visited together."""

T = TypeVar("T")


class Exploration(NamedTuple):
    """What a search came to.

    Attributes:
        states: the distinct states that were reached, with one for each orbit.
        states_before_symmetry: the states of all their orbits. (In a world where instances join
            later, only some of these can be reached: the first that joins has the first name.)
        transitions: how many events lead from one of the states to another.
        depth: how many events the farthest state is away from the first one.
        seconds: how long the search took.
        finished: whether it visited every state.
        violation: the property that does not hold, or nothing.
        trace: the events that lead to the violation, the fewest that do.
    """

    states: int
    states_before_symmetry: int
    transitions: int
    depth: int
    seconds: float
    finished: bool
    violation: str = ""
    trace: tuple[Event, ...] = ()


class Progress(NamedTuple):
    """How far a search is. A state of the frontier that was reached twice may count twice."""

    states: int
    frontier: int
    depth: int
    seconds: float


class Budget(NamedTuple):
    """When to stop: after so many states, or so many seconds."""

    states: float = float("inf")
    seconds: float = float("inf")


NO_BUDGET = Budget()


def no_progress(_: Progress) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class Options:
    """How to search.

    Attributes:
        symmetry: whether states that differ only in the names of instances count as one.
        budget: when to stop before the end.
        progress: told now and then how far the search is. It may raise `BudgetEnded`.
    """

    symmetry: bool = True
    budget: Budget = NO_BUDGET
    progress: Callable[[Progress], None] = no_progress


class BudgetEnded(Exception):
    """It is time to stop."""


class _Violated(Exception):
    """This one world, or an event in it, violates a property."""

    def __init__(self, world: Worlds) -> None:
        super().__init__()
        self.world = world


def explore(
    bounds: Bounds, protocol: Protocol = RIGHT, options: Options | None = None
) -> Exploration:
    """Visit every state that can be reached; stop at the first violation, or when the budget
    ends. Raises TooLarge if the world has more different parts than fit."""
    return Search(bounds, protocol, options).run()


class Search:
    """One breadth-first search. `_levels` holds the states first reached at each depth."""

    def __init__(
        self, bounds: Bounds, protocol: Protocol = RIGHT, options: Options | None = None
    ) -> None:
        self._bounds, self._protocol, self._options = bounds, protocol, options or Options()
        self.space: Space = Space(bounds, protocol, symmetry=self._options.symmetry)
        first = self.space.parts.split(self.space.reduced(start(bounds)))
        self._layout = self.space.parts.layout().roomy()
        self._levels = [self._layout.pack(first)]
        self._reached: list[Array] = []
        """The successors of the last level, as far as it has been visited."""
        self._seen = self._levels[0]
        """All the levels together, in the order of the numbers."""
        self._transitions = 0
        self._states_before_symmetry = 0

    def run(self) -> Exploration:
        self._began = time.perf_counter()
        violation, trace, stopped = "", tuple[Event, ...](), False
        collecting = gc.isenabled()
        gc.disable()  # everything that is made here is kept, and nothing is circular
        try:
            while len(self._levels[-1]):
                self._visit_level()
        except BudgetEnded:
            stopped = True
        except _Violated as violated:
            trace, violation = self._replay(violated.world)
        finally:
            if collecting:
                gc.enable()
        return Exploration(
            len(self._seen) + len(self._next_level()),
            self._states_before_symmetry,
            self._transitions,
            len(self._levels) - (2 if not len(self._levels[-1]) else 1),
            time.perf_counter() - self._began,
            not violation and not stopped,
            violation,
            trace,
        )

    def visited(self) -> Iterator[World]:
        """Every state that was reached."""
        worlds = self._unpack(self._seen)
        return (self.space.parts.world(worlds, index) for index in range(len(self._seen)))

    def _visit_level(self) -> None:
        """Inspect the states first, and only then the events in them: the trace to a violation in a
        state is the shorter one."""
        for first in range(0, len(self._levels[-1]), AT_ONCE):
            self._inspect(self._levels[-1][first : first + AT_ONCE])
        for first in range(0, len(self._levels[-1]), AT_ONCE):
            self._report()
            self._visit(self._levels[-1][first : first + AT_ONCE])
        following, self._reached = self._next_level(), []
        self._levels.append(following)
        self._seen = np.concatenate([self._seen, following])
        self._seen.sort(kind="stable")  # both halves are sorted, which makes this a merge

    def _next_level(self) -> Array:
        return np.unique(np.concatenate([np.array([], np.int64), *self._reached]))

    def _inspect(self, numbers: Array) -> None:
        worlds = self._unpack(numbers)
        self._try(self.space.quiescence.inspect, worlds)
        self._states_before_symmetry += self.space.symmetry.orbit_sizes(worlds)

    def _visit(self, numbers: Array) -> None:
        origins, after = self._try(self.space.successors, self._unpack(numbers))
        self._transitions += len(origins)
        reached = np.unique(self._pack(after))
        self._reached.append(reached[~_among(reached, self._seen)])

    def _try(self, action: Callable[[Worlds], T], worlds: Worlds) -> T:
        """Do something with all of the worlds. Raises _Violated with one that violates a
        property."""
        try:
            return action(worlds)
        except Violation:
            places = np.arange(len(worlds.servers))
            while len(places) > 1:
                some = places[: len(places) // 2]
                places = some if _violates(action, worlds.at(some)) else places[len(some) :]
            raise _Violated(worlds.at(places)) from None

    def _pack(self, worlds: Worlds) -> Array:
        """The numbers of worlds. If there are too many parts by now for the layout, everything that
        is kept is packed anew."""
        parts, needed = self.space.parts.split(worlds), self.space.parts.layout()
        if not self._layout.covers(needed):
            old, self._layout = self._layout, needed.roomy()
            self._seen = self._layout.pack(old.unpack(self._seen))
            self._levels = [self._layout.pack(old.unpack(level)) for level in self._levels]
            self._reached = [self._layout.pack(old.unpack(some)) for some in self._reached]
        return self._layout.pack(parts)

    def _unpack(self, numbers: Array) -> Worlds:
        return self.space.parts.join(self._layout.unpack(numbers))

    def _report(self) -> None:
        seconds = time.perf_counter() - self._began
        frontier = sum(map(len, self._reached))
        states = len(self._seen) + frontier
        self._options.progress(Progress(states, frontier, len(self._levels) - 1, seconds))
        budget = self._options.budget
        if states > budget.states or seconds > budget.seconds:
            raise BudgetEnded

    # --- The trace to a violation -----------------------------------------------------------------

    def _replay(self, violated: Worlds) -> tuple[tuple[Event, ...], str]:
        """The events that lead to the violation in this world, and what it says."""
        world, trace = start(self._bounds), list[Event]()
        for state in self._path_to(violated):
            event, world = self._step_to(world, state)
            trace.append(event)
        try:
            inspect(world, self._protocol)
        except Violation as violation:
            return tuple(trace), str(violation)
        for event in events(world):
            try:
                perform(world, event, self._protocol)
            except Violation as violation:
                return (*trace, event), str(violation)
        raise AssertionError("a violation exists only after a reduction")

    def _path_to(self, world: Worlds) -> list[Worlds]:
        """The states on the way to this one, without the first state of all."""
        path: list[Worlds] = []
        for depth in range(len(self._levels) - 2, -1, -1):
            path.append(world)
            world = self._predecessor(world, depth)
        return path[::-1]

    def _predecessor(self, world: Worlds, depth: int) -> Worlds:
        """A state at this depth that leads to this one."""
        for first in range(0, len(self._levels[depth]), AT_ONCE):
            worlds = self._unpack(self._levels[depth][first : first + AT_ONCE])
            origins, after = self.space.successors(worlds)
            numbers = self._pack(after)
            found = origins[numbers == self._pack(world)]
            if len(found):
                return worlds.at(found[:1])
        raise AssertionError("no state leads to this one")

    def _step_to(self, world: World, state: Worlds) -> tuple[Event, World]:
        for event in events(world):
            after = perform(world, event, self._protocol)
            if self._pack(self.space.reduced(after)) == self._pack(state):
                return event, after
        raise AssertionError("a state exists only after a reduction")


def _violates(action: Callable[[Worlds], object], worlds: Worlds) -> bool:
    try:
        action(worlds)
    except Violation:
        return True
    return False


def _among(numbers: Array, many: Array) -> NDArray[np.bool_]:
    """Which of the numbers are among the many. Both are in order."""
    places = np.searchsorted(many, numbers)
    found: NDArray[np.bool_] = many[np.minimum(places, len(many) - 1)] == numbers
    return found
