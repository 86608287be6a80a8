"""Each reduction is sound: small worlds are visited with it and without, and come to the same.

The plain search here knows no numbers, no tables and no reductions: it is `oracle.check.world`, breadth
first. What it reaches, reduced afterwards, must be what `oracle.check.fast.search` reaches; and both must
find the same of a broken machine, at the same depth."""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import cache

import pytest

from oracle.check.broken import BROKEN
from oracle.check.fast import reductions as reduce
from oracle.check.fast.reductions import REDUCTIONS, reduced
from oracle.check.fast.search import Search
from oracle.check.properties import PROPERTIES, Rest, Violation
from oracle.check.world import (
    NAMES,
    RIGHT,
    Bounds,
    Protocol,
    Slot,
    World,
    events,
    inspect,
    inspect_quiescent,
    perform,
    start,
)
from oracle.model import Message, Opened, Reply, Server

INC_SET = ("inc", "set")

WORLDS = {
    "a give-up": Bounds(kinds=("inc",), give_ups=1),
    "a clock and a crash": Bounds(operations=1, kinds=INC_SET, ticks=1, crashes=1),
    "a clock that moves twice": Bounds(operations=1, kinds=("inc",), ticks=2),
    "two calls and a clock": Bounds(kinds=("get",), ticks=1),
    "a newcomer": Bounds(1, operations=1, kinds=INC_SET, joins=1, crashes=1),
    "a loss": Bounds(operations=1, kinds=INC_SET, losses=1),
    "two rollbacks": Bounds(operations=1, kinds=("heartbeat",), rollbacks=2),
    "a rollback and a clock": Bounds(operations=1, kinds=("inc",), rollbacks=1, ticks=1),
    "two counters": Bounds(keys=2, kinds=("set",)),
    "three instances": Bounds(3, kinds=("inc",)),
    "conditions and leaving": Bounds(kinds=("inc_if", "leave"), give_ups=1),
    "leaving and a clock": Bounds(operations=1, kinds=("inc", "leave"), ticks=1, first=("leave",)),
    "orders of calls": Bounds(kinds=INC_SET, give_ups=1, linear=True),
}


def _visit(bounds: Bounds, protocol: Protocol = RIGHT) -> tuple[set[World], str, int]:
    """All worlds; or what is violated first, and after how many events."""
    first = start(bounds)
    seen, frontier, depth = {first}, [first], 0
    while frontier:
        following: list[World] = []
        try:
            for world in frontier:
                inspect(world, protocol)
        except Violation as violation:
            return seen, str(violation), depth
        try:
            for world in frontier:
                for event in events(world):
                    after = perform(world, event, protocol)
                    if after not in seen:
                        seen.add(after)
                        following.append(after)
        except Violation as violation:
            return seen, str(violation), depth + 1
        frontier, depth = following, depth + 1
    return seen, "", depth


@cache
def _plain(name: str) -> tuple[World, ...]:
    worlds, violation, _ = _visit(WORLDS[name])
    assert not violation
    return tuple(worlds)


def _reduced(worlds: Iterable[World]) -> set[frozenset[World]]:
    return {reduced(world) for world in worlds}


@pytest.mark.parametrize("name", WORLDS)
def test_the_states_reached_are_the_same(name: str) -> None:
    """All reductions at once, with the numbers and tables of the search."""
    search = Search(WORLDS[name])
    found = search.run()
    assert found.complete
    mine, right = _reduced(search.visited()), _reduced(_plain(name))
    assert mine == right
    assert found.states == len(right)
    assert found.states < len(_plain(name)), "the reductions reduce something"


def test_no_reduction_is_left_out() -> None:
    assert {name for alone in ALONE for name in alone} == set(REDUCTIONS)


@pytest.mark.parametrize("name", [name for name, bounds in WORLDS.items() if not bounds.joins])
def test_without_symmetry_the_states_are_those_before_it(name: str) -> None:
    """(Of those that join later, the first joins first: not all names can be had.)"""
    merged, all_of_them = Search(WORLDS[name]).run(), Search(WORLDS[name], symmetry=False).run()
    assert merged.worlds == all_of_them.states == all_of_them.worlds


ALONE = [("time",), ("records",), ("time", "requests"), ("names",)]
"""Each reduction; "requests" is for worlds in relative time."""


@pytest.mark.parametrize("alone", ALONE, ids="+".join)
@pytest.mark.parametrize("name", WORLDS)
def test_a_reduced_world_leads_where_the_world_itself_does(
    name: str, alone: tuple[str, ...]
) -> None:
    """Each reduction alone is a bisimulation: step by step, with whatever may happen."""
    for world in random.Random(7).sample(_plain(name), min(len(_plain(name)), 100)):
        for same in reduced(world, alone):
            mine = _reduced(perform(same, event) for event in events(same))
            right = _reduced(perform(world, event) for event in events(world))
            # What only a spent request could do is nothing: to stay where one is.
            assert mine | {reduced(same)} == right | {reduced(world)}


def _rest(
    server: Server, wall: int, slots: tuple[Slot, ...], protocol: Protocol
) -> tuple[str, list[Reply]]:
    """Which property does not hold at rest, and all replies there, but for sessions' numbers."""
    replies = list[Reply]()

    def serve(before: Server, message: Message, now: int) -> tuple[Server, Reply]:
        after, reply = protocol.serve(before, message, now)
        replies.append(Opened(0) if isinstance(reply, Opened) else reply)
        return after, reply

    try:
        inspect_quiescent(server, wall, slots, protocol._replace(serve=serve))
    except Violation as violation:
        return str(violation).split(":")[0], replies
    return "", replies


@pytest.mark.parametrize("name", BROKEN)
def test_what_matters_at_rest_decides_what_holds_there(name: str) -> None:
    """By what is left of a world at rest (`reduce.Column`) the same is said and found as by all of
    it; in a broken machine, for in ours nothing is found."""
    protocol, bounds, breaks = BROKEN[name]
    worlds, _, _ = _visit(bounds, protocol)
    resting = [world for world in worlds if all(slot.is_quiescent for slot in world.slots)]
    found = set()
    for wall, whole, _, slots in resting:
        server = reduce.relative_time(whole, wall, bounds.threshold)
        columns = [
            reduce.column(server, who, slot, bounds.threshold)
            for who, slot in zip(NAMES, slots, strict=False)
        ]
        rest = reduce.quiescent(reduce.epochs(server), columns, bounds.threshold)
        right = _rest(whole, wall, slots, protocol)
        assert _rest(rest[0], 0, rest[1], protocol) == right
        found.add(right[0])
    if any(prop.name == breaks for prop in PROPERTIES[Rest]):
        assert any(breaks in verdict for verdict in found)


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_machine_is_found_out_at_the_same_depth(name: str) -> None:
    protocol, bounds, _ = BROKEN[name]
    _, violation, depth = _visit(bounds, protocol)
    assert violation
    found = Search(bounds, protocol).run()
    assert len(found.trace) == depth
