"""Which worlds need not be told apart: states that differ only in what can never matter again.

Each function maps a state to one that behaves just the same: whatever can happen to the one can
happen to the other, breaks the same properties, and leads to states that are the same again under
these functions. (A bisimulation: a search that keeps one of them finds what a search that keeps
both would find, at the same depth.) Why that is so stands with each. That it is so is tested:
`tests/test_reductions.py` visits small worlds with and without, and compares all states reached.
"""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

from oracle.model import Counter, Map, Request, Server, Session, View
from oracle.world import NAMES, Context, Slot, World

REDUCTIONS = ("time", "records", "requests", "names")
"""All of them, in the order in which they are applied."""


# --- Time ----------------------------------------------------------------------------------------


def relative_time(server: Server, wall: int, threshold: int) -> Server:
    """Only differences of time matter: the wall clock is 0, and so is the server's time.

    The machine reads the wall clock only as `wall - last wall` (R3) and its time only as `T -
    heartbeat` (R5), so that adding a number to both walls, or to T and to every heartbeat, changes
    no reply. T - heartbeat is compared with the one threshold that all instances have, and only
    grows until it is 0 again: D or more is D. A server that no request has reached has no time."""
    now = server.clock
    if now is None:
        return server
    sessions = {
        name: Session(max(session.heartbeat - now, -threshold), session.number, session.seq)
        for name, session in server.sessions.items()
    }
    return server._replace(clock=0, wall=server.wall - wall, sessions=Map(sessions))


def time_stands_still(server: Server, threshold: int) -> Server:
    """At rest, when no time passes any more, an instance is dead or it is not; since when does not
    matter. (For a server in relative time.)"""
    lag = max(0, -server.wall)
    sessions = {
        name: s._replace(heartbeat=-threshold if lag - s.heartbeat >= threshold else 0)
        for name, s in server.sessions.items()
    }
    return server._replace(wall=0, sessions=Map(sessions))


# --- Completion records --------------------------------------------------------------------------


def without_record(server: Server, name: str, in_flight: int) -> Server:
    """A completion record that nobody can ask for is as good as an empty one.

    It is read for one purpose, to answer a retry of the request that wrote the slice, and heard
    only by an instance that has that request in flight. An instance's numbers only grow: once it
    has gone on, or crashed, nobody is left to hear the answer.

    Args:
        in_flight: the seq that the instance waits for, or 0.
    """
    counters = server.counters
    for key, counter in counters.items():
        mine = counter.slices.get(name)
        if mine is not None and mine.seq != in_flight and mine.before != View():
            slices = counter.slices.put(name, mine._replace(before=View()))
            counters = counters.put(key, Counter(counter.epoch, slices))
    return server if counters is server.counters else server._replace(counters=counters)


def in_flight(slot: Slot) -> int:
    return slot.owner.sent.seq if slot.owner is not None and slot.owner.sent is not None else 0


# --- Requests that can do nothing ----------------------------------------------------------------


class Future(NamedTuple):
    """What of the context decides which requests can still do anything: whether Redis never loses
    anything, and whether the clock never moves again."""

    lossless: bool
    still: bool


def future(context: Context) -> Future:
    left = context.left
    lossless = not (context.lossy or left.losses or left.rollbacks)
    return Future(lossless, not left.ticks)


def spent_requests(server: Server, slot: Slot, name: str, ahead: Future, threshold: int) -> Slot:
    """A copy that can do nothing any more, now or later, need not be kept in the network.

    While Redis loses nothing, a session's number is handed out once and its last seq only grows. So
    a request of a session that is over will be told that there is none, for ever; and one that is
    older than its session's last will be late, until the session is over. It is not the request in
    flight, whose copies matter to what its sender knows. An open can be late for ever only if its
    instance's entry cannot vanish: time stands still, and nobody is dead.

    What such a copy still does is to make the server read the clock. "A stranger calls" does too.
    (For a server in relative time.)
    """
    if not ahead.lossless or not slot.network:
        return slot
    sent = slot.owner.sent if slot.owner is not None else None
    session = server.sessions.get(name)
    lag = max(0, -server.wall)  # the server has not read it yet, but may at any time
    lasting = ahead.still and all(
        lag - session.heartbeat < threshold for session in server.sessions.values()
    )
    kept = []
    for message in slot.network:
        newer = session is None or session.seq <= message.seq
        if isinstance(message, Request):
            can_act = newer and session is not None and session.number == message.session
        else:
            can_act = newer or not lasting
        if can_act or message == sent:
            kept.append(message)
    return slot if len(kept) == len(slot.network) else slot._replace(network=frozenset(kept))


# --- Names ---------------------------------------------------------------------------------------


def rename_server(server: Server, names: dict[str, str]) -> Server:
    """The machine compares names for equality alone, so that a permutation of them changes nothing
    but names. (Nothing sorts them: `invariants.Rest` does, and what it checks holds in any
    order.)"""
    return server._replace(
        sessions=Map({names.get(n, n): s for n, s in server.sessions.items()}),
        counters=Map(
            {
                key: Counter(c.epoch, Map({names.get(n, n): s for n, s in c.slices.items()}))
                for key, c in server.counters.items()
            }
        ),
    )


def rename_context(context: Context, names: dict[str, str]) -> Context:
    order = context.order
    return context._replace(
        saved=tuple(rename_server(server, names) for server in context.saved),
        order=order and Map({key: each.rename(names) for key, each in order.items()}),
    )


# --- All of them ---------------------------------------------------------------------------------


def reduced(world: World, reductions: tuple[str, ...] = REDUCTIONS) -> frozenset[World]:
    """The world with these reductions applied: under "names", all that it can be renamed to. To
    compare searches with; `oracle.explore` applies the same functions to one part at a time."""
    wall, server, context, slots = world
    threshold = context.left.threshold
    if "time" in reductions:
        saved = tuple(relative_time(copy, wall, threshold) for copy in context.saved)
        server, context = relative_time(server, wall, threshold), context._replace(saved=saved)
        wall = 0
    for place, name in enumerate(NAMES[: len(slots)]):
        if "records" in reductions:
            seq = in_flight(slots[place])
            server = without_record(server, name, seq)
            saved = tuple(without_record(copy, name, seq) for copy in context.saved)
            context = context._replace(saved=saved)
        if "requests" in reductions:
            slot = spent_requests(server, slots[place], name, future(context), threshold)
            slots = (*slots[:place], slot, *slots[place + 1 :])
    if "names" not in reductions:
        return frozenset({World(wall, server, context, slots)})
    same = set()
    for order in permutations(range(len(slots))):
        names = {NAMES[old]: NAMES[new] for new, old in enumerate(order)}
        renamed = rename_server(server, names), rename_context(context, names)
        same.add(World(wall, *renamed, tuple(slots[old] for old in order)))
    return frozenset(same)
