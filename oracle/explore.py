"""Every interleaving of a bounded world, breadth first, on the oracle's own machine.

`oracle.world` says what can happen, `oracle.invariants` what must hold, `oracle.reduce` which
states need not be told apart, and `oracle.space` makes numbers of them. Here they are visited, once
each. Of each visited world its number is kept, and no more: when something is found, the way to it
is looked for backwards, level by level, and then walked again by worlds that are not reduced.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from oracle.invariants import Violation
from oracle.space import SLOT_BITS, Space
from oracle.world import (
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

OFTEN = 2**13
"""After how many worlds the budget is looked at."""


class Found(NamedTuple):
    """What a search came to. `worlds` counts the states and all that they can be renamed to:
    without those that join later, these are the states before symmetry. `complete` says that all
    were visited. A violation comes with the events that lead to it, the shortest there are."""

    states: int
    worlds: int
    transitions: int
    depth: int
    seconds: float
    complete: bool
    violation: str = ""
    story: tuple[Event, ...] = ()


class Progress(NamedTuple):
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
        first = self.space.number(start(bounds))
        self.seen = {first}
        self.levels = [[first]]
        self.transitions = 0
        self.worlds = 0

    def run(self) -> Found:
        self.began = time.perf_counter()
        violation, story, over = "", tuple[Event, ...](), False
        collecting = gc.isenabled()
        gc.disable()  # all that is made here is kept, and nothing is circular
        try:
            while self.levels[-1]:
                self._visit_level()
        except Over:
            over = True
        except Violation:
            story, violation = self._tell()
        finally:
            if collecting:
                gc.enable()
        return Found(
            len(self.seen),
            self.worlds,
            self.transitions,
            len([level for level in self.levels if level]) - 1,
            time.perf_counter() - self.began,
            not violation and not over,
            violation,
            story,
        )

    def _visit_level(self) -> None:
        space, seen, following = self.space, self.seen, list[int]()
        successors, canonical, busy = space.successors, space.canonical, space.busy
        slot_mask, all_slots, swapped = space.slot_mask, space.all_slots, space.swapped
        pair, everybody = space.symmetry and space.places == 2, len(space.renaming)
        level = self.levels[-1]
        self.levels.append(following)
        for count, number in enumerate(level):
            if not count % OFTEN:
                self._report(len(following))
            self.at = number
            if number & slot_mask not in busy and space.rests(number):
                space.inspect_rest(number)
            found = successors(number)
            self.transitions += len(found)
            for after in found:
                if pair:  # as `canonical` does, for the commonest case
                    one, other = after >> SLOT_BITS & slot_mask, after & slot_mask
                    if one > other:
                        state = swapped.get(after >> all_slots)
                        if state is None:
                            after = canonical(after)
                        else:
                            after = state << all_slots | other << SLOT_BITS | one
                    elif one == other:
                        after = canonical(after)
                else:
                    after = canonical(after)
                if after not in seen:
                    seen.add(after)
                    following.append(after)
            if not pair or (number >> SLOT_BITS & slot_mask) == number & slot_mask:
                self.worlds += space.twins(number) if space.symmetry else 1
            else:
                self.worlds += everybody

    def _report(self, frontier: int) -> None:
        seconds = time.perf_counter() - self.began
        self.progress(Progress(len(self.seen), frontier, len(self.levels) - 2, seconds))
        if len(self.seen) > self.budget.states or seconds > self.budget.seconds:
            raise Over

    # --- The way to a violation ------------------------------------------------------------------

    def _tell(self) -> tuple[tuple[Event, ...], str]:
        """The events from the start to the violation at `self.at`, and what it says.

        The way is walked a second time by worlds that no reduction has touched: that they come to
        the same is what the reductions promise.
        """
        way = self._way_to(self.at, len(self.levels) - 2)
        world, story = start(self.bounds), []
        for number in way:
            event, world = self._step_to(world, number)
            story.append(event)
        try:
            inspect(world, self.protocol)
        except Violation as violation:
            return tuple(story), str(violation)
        for event in events(world):
            try:
                perform(world, event, self.protocol)
            except Violation as violation:
                return (*story, event), str(violation)
        raise AssertionError("a reduction has made up a violation")

    def _way_to(self, number: int, depth: int) -> list[int]:
        way: list[int] = []
        for level in reversed(self.levels[:depth]):
            way.append(number)
            number = next(before for before in level if number in self._after(before))
        return way[::-1]

    def _after(self, number: int) -> Iterator[int]:
        found = self.space.successors(number)
        return map(self.space.canonical, found)

    def _step_to(self, world: World, number: int) -> tuple[Event, World]:
        for event in events(world):
            after = perform(world, event, self.protocol)
            if self.space.number(after) == number:
                return event, after
        raise AssertionError("a reduction has made up a state")


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
