"""Each reduction is sound: searches of small worlds with it and without it come to the same.

`oracle.check.search` knows no numbers, no tables and no reductions. The states that it reaches,
reduced afterwards, must be those that `oracle.check.fast.search` reaches; and both must find the
same violation of a broken protocol, at the same depth.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import cache, partial
from itertools import permutations

import pytest

from oracle.check import search as plain
from oracle.check.broken import BROKEN
from oracle.check.call_kinds import kinds
from oracle.check.fast.quiescence import column, rest, restored
from oracle.check.fast.reductions import (
    REDUCTIONS,
    future,
    in_flight,
    relative_time,
    relative_world,
    rename_context,
    rename_server,
    request_horizon,
    with_snapshots,
    without_past,
    without_record,
    without_spent_requests,
)
from oracle.check.fast.search import Options, Search
from oracle.check.properties import QUIESCENT, Violation
from oracle.check.state import NAMES, Bounds, Protocol, Slot, World, start
from oracle.check.world import events, inspect_quiescent, perform
from oracle.model import Message, Opened, Reply, Server

WORLDS = {
    "a give-up": Bounds(kinds=kinds("inc"), give_ups=1),
    "a clock and a crash": Bounds(operations=1, kinds=kinds("inc,set"), ticks=1, crashes=1),
    "a clock that moves twice": Bounds(operations=1, kinds=kinds("inc"), ticks=2),
    "two calls and a clock": Bounds(kinds=kinds("get"), ticks=1),
    "a newcomer": Bounds(1, operations=1, kinds=kinds("inc,set"), joins=1, crashes=1),
    "a loss": Bounds(operations=1, kinds=kinds("inc,set"), losses=1),
    "two calls and a loss": Bounds(1, kinds=kinds("inc,release"), losses=1, give_ups=1),
    "a loss and a clock": Bounds(operations=1, kinds=kinds("inc"), losses=1, ticks=1),
    "a loss, a leave and a give-up": Bounds(
        kinds=kinds("inc,leave"), losses=1, give_ups=1, first=kinds("leave")
    ),
    "two losses": Bounds(operations=1, kinds=kinds("inc"), losses=1, key_losses=1),
    "a key is lost": Bounds(operations=1, kinds=kinds("inc,delete"), key_losses=1, give_ups=1),
    "a key is lost, and a clock": Bounds(operations=1, kinds=kinds("inc"), key_losses=1, ticks=1),
    "two rollbacks": Bounds(operations=1, kinds=kinds("heartbeat"), rollbacks=2),
    "a rollback and a clock": Bounds(operations=1, kinds=kinds("inc"), rollbacks=1, ticks=1),
    "a key falls back": Bounds(operations=1, kinds=kinds("inc,set"), key_rollbacks=1, give_ups=1),
    "a key falls back, and a clock": Bounds(
        operations=1, kinds=kinds("inc"), key_rollbacks=1, ticks=1
    ),
    "a rollback and a loss": Bounds(1, operations=1, kinds=kinds("inc"), rollbacks=1, losses=1),
    "two counters": Bounds(keys=2, kinds=kinds("set")),
    "calls on two counters": Bounds(keys=2, kinds=kinds("inc_and_set"), give_ups=1),
    "three instances": Bounds(3, kinds=kinds("inc")),
    "two thresholds": Bounds(operations=1, kinds=kinds("inc,leave"), thresholds=(1, 3), ticks=2),
    "a promise": Bounds(operations=1, kinds=kinds("inc,leave"), promises=(1, 0), ticks=2),
    "promises and a loss": Bounds(
        operations=1, kinds=kinds("inc"), promises=(1,), ticks=1, losses=1
    ),
    "an id is used again": Bounds(1, kinds=kinds("inc"), crashes=1, reuses=1, ticks=1),
    "an id is used again, and a loss": Bounds(
        1, kinds=kinds("inc"), crashes=1, reuses=1, key_losses=1
    ),
    "counters vanish": Bounds(kinds=kinds("delete,heartbeat,release"), give_ups=1),
    "conditions and leaving": Bounds(kinds=kinds("inc_if,leave"), give_ups=1),
    "leaving and a clock": Bounds(
        operations=1, kinds=kinds("inc,leave"), ticks=1, first=kinds("leave")
    ),
    "orders of calls": Bounds(kinds=kinds("inc,set"), give_ups=1, linear=True),
}


def reduced(world: World, reductions: tuple[str, ...] = REDUCTIONS) -> frozenset[World]:
    """The world with these reductions applied; under "names", its whole orbit. The explorer applies
    the same functions to one part of a world at a time."""
    if "time" in reductions:
        world = relative_world(world)
    wall, server, context, slots = world
    if "past" in reductions:
        slots = tuple(without_past(slot, context.rolled_back) for slot in slots)
    for place, name in enumerate(NAMES[: len(slots)]):
        if "records" in reductions:
            seq = in_flight(slots[place])
            server = without_record(server, name, seq)
            context = with_snapshots(context, partial(without_record, name=name, in_flight=seq))
        if "requests" in reductions:
            horizon = request_horizon(server, name, future(context))
            slot = without_spent_requests(slots[place], horizon)
            slots = (*slots[:place], slot, *slots[place + 1 :])
    if "names" not in reductions:
        return frozenset({World(wall, server, context, slots)})
    orbit = set()
    for order in permutations(range(len(slots))):
        names = {NAMES[old]: NAMES[new] for new, old in enumerate(order)}
        renamed = rename_server(server, names), rename_context(context, names)
        orbit.add(World(wall, *renamed, tuple(slots[old] for old in order)))
    return frozenset(orbit)


@cache
def _plain(name: str) -> tuple[World, ...]:
    result = plain.explore(WORLDS[name])
    assert not result.violation
    return tuple(result.worlds)


def _reduced(worlds: Iterable[World]) -> set[frozenset[World]]:
    return {reduced(world) for world in worlds}


@pytest.mark.parametrize("name", WORLDS)
def test_the_states_reached_are_the_same(name: str) -> None:
    """All reductions together, with the interning and the tables of the fast search."""
    search = Search(WORLDS[name])
    found = search.run()
    assert found.finished
    mine, right = _reduced(search.visited()), _reduced(_plain(name))
    assert mine == right
    assert found.states == len(right)
    assert found.states < len(_plain(name)), "the reductions reduce something"


def test_no_reduction_is_left_out() -> None:
    assert {name for alone in ALONE for name in alone} == set(REDUCTIONS)


def _is_symmetric(bounds: Bounds) -> bool:
    return not bounds.joins and len(bounds.thresholds) == len(bounds.promises) == 1


@pytest.mark.parametrize("name", [name for name in WORLDS if _is_symmetric(WORLDS[name])])
def test_without_symmetry_the_states_are_those_before_it(name: str) -> None:
    """(Not where instances join later: the first to join always has the first name. Nor where they
    differ: each has its own name.)"""
    merged = Search(WORLDS[name]).run()
    apart = Search(WORLDS[name], options=Options(symmetry=False)).run()
    assert merged.states_before_symmetry == apart.states == apart.states_before_symmetry


ALONE = [("time",), ("past",), ("records",), ("time", "requests"), ("names",)]
"""Each reduction alone. "requests" applies to worlds in relative time."""


CASES = [
    (name, alone)
    for name, bounds in WORLDS.items()
    for alone in ALONE
    if alone != ("past",) or bounds.may_roll_back  # it changes nothing anywhere else
]


@pytest.mark.parametrize(("name", "alone"), CASES)
def test_a_reduced_world_leads_where_the_world_itself_does(
    name: str, alone: tuple[str, ...]
) -> None:
    """Each reduction alone is a bisimulation, for every event."""
    for world in random.Random(7).sample(_plain(name), min(len(_plain(name)), 60)):
        for same in reduced(world, alone):
            mine = _reduced(perform(same, event) for event in events(same))
            right = _reduced(perform(world, event) for event in events(world))
            # A spent request that arrives leads nowhere.
            assert mine | {reduced(same)} == right | {reduced(world)}


def _verdict(
    server: Server, wall: int, slots: tuple[Slot, ...], protocol: Protocol
) -> tuple[str, list[Reply]]:
    """Which property a quiescent world violates, and every reply there. The numbers of sessions
    are left out: they count only by their ranks."""
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


JUDGE_DEATH_OTHERWISE = {"an outage counts as silence", "the caller's threshold judges the others"}
"""Broken protocols to which it means something else that an instance is dead (R5, R19)."""


@pytest.mark.parametrize("name", sorted(BROKEN.keys() - JUDGE_DEATH_OTHERWISE))
def test_what_matters_when_quiescent_decides_what_holds(name: str) -> None:
    """What is kept of a quiescent world (`Column`) leads to the same replies and the same verdict
    as the whole world. In broken protocols, because nothing is found in ours."""
    protocol, bounds, breaks = BROKEN[name]
    result = plain.explore(bounds, protocol)
    quiescent = [w for w in result.worlds if all(slot.is_quiescent for slot in w.slots)]
    quiescent = random.Random(7).sample(quiescent, min(len(quiescent), 200))
    verdicts = set()
    if breaks in QUIESCENT:
        world = start(bounds)
        for event in result.trace:
            world = perform(world, event, protocol)
        quiescent.append(world)
    for wall, whole, _, slots in quiescent:
        server = relative_time(whole, wall)
        columns = [column(server, who, slot) for who, slot in zip(NAMES, slots, strict=False)]
        kept = restored(rest(server), columns)
        right = _verdict(whole, wall, slots, protocol)
        assert _verdict(kept[0], 0, kept[1], protocol) == right
        verdicts.add(right[0])
    if breaks in QUIESCENT:
        assert any(breaks in verdict for verdict in verdicts)


@pytest.mark.parametrize("name", BROKEN)
def test_both_searches_find_a_broken_protocol_at_the_same_depth(name: str) -> None:
    protocol, bounds, breaks = BROKEN[name]
    right, found = plain.explore(bounds, protocol), Search(bounds, protocol).run()
    assert f", {breaks}: " in right.violation
    assert f", {breaks}: " in found.violation
    assert len(found.trace) == len(right.trace)
