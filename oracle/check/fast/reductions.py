"""Which worlds need not be told apart: states that differ only in what can never matter again.

Each function maps a state to one that behaves just the same: whatever can happen to the one can
happen to the other, breaks the same properties, and leads to states that are the same again under
these functions. (A bisimulation: a search that keeps one of them finds what a search that keeps
both would find, at the same depth.) Why that is so stands with each. That it is so is tested:
`tests/oracle/test_reductions.py` visits small worlds with and without, and compares all states reached.

What is said of records and of requests is said of `model.serve`: the protocols of `oracle.check.broken`
that serve otherwise are explored without these two.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations
from typing import NamedTuple

from oracle.check.world import NAMES, Context, Slot, World
from oracle.model import Counter, Instance, Leave, Map, Message, Open, Server, Session, Slice, View

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


# --- Quiescent -------------------------------------------------------------------------------------


class Column(NamedTuple):
    """What matters of one instance when nobody calls and no copy arrives any more: whether it is
    dead, its session (None or a number) and the last request of that, its slices (in the order of
    the counters), what it knows itself, and on which counters it gave up."""

    dead: bool
    session: int | None
    seq: int
    slices: tuple[tuple[str, Slice], ...]
    instance: Instance | None
    indeterminate: frozenset[str]


def column(server: Server, name: str, slot: Slot, threshold: int) -> Column:
    """One instance quiescent. (For a server in relative time.)

    No time passes any more: an instance is dead or it is not, since when does not matter. The
    numbers of an instance's requests are compared with one another alone, and so are those of its
    sessions, and the next one is greater than all: their ranks will do. Of an instance that is no
    more, nobody asks for numbers."""
    session = server.sessions.get(name)
    dead = session is None or max(0, -server.wall) - session.heartbeat >= threshold
    slices = [(k, c.slices[name]) for k, c in server.counters.items() if name in c.slices]
    slices.sort()
    instance = slot.instance
    if instance is None:
        kept = tuple((key, Slice(s.count, s.epoch, 0, View())) for key, s in slices)
        return Column(dead, None if session is None else 1, 0, kept, None, frozenset())
    seqs = {0, instance.seq, instance.acked, instance.fence, session.seq if session else 0}
    seqs.update(s.seq for _, s in slices)
    seqs.update(memory.seq for memory in instance.memory.values())
    rank = {seq: place for place, seq in enumerate(sorted(seqs))}
    numbers = {0, instance.session, instance.last, session.number if session else 0}
    number = {number: place for place, number in enumerate(sorted(numbers))}
    return Column(
        dead,
        number[session.number] if session else None,
        rank[session.seq] if session else 0,
        tuple((key, s._replace(seq=rank[s.seq], before=View())) for key, s in slices),
        instance._replace(
            session=number[instance.session],
            last=number[instance.last],
            seq=rank[instance.seq],
            acked=rank[instance.acked],
            fence=rank[instance.fence],
            memory=Map(
                {k: m._replace(seq=rank[m.seq]) for k, m in sorted(instance.memory.items())}
            ),
        ),
        slot.indeterminate,
    )


SESSIONS = 3
"""The greatest rank of a session: an instance has one, had one, and has an entry of one."""


def epochs(server: Server) -> tuple[tuple[str, int], ...]:
    """What matters of a server quiescent that is nobody's own."""
    return tuple(sorted((key, counter.epoch) for key, counter in server.counters.items()))


def quiescent(
    epochs: tuple[tuple[str, int], ...], columns: Sequence[Column], threshold: int
) -> tuple[Server, tuple[Slot, ...]]:
    """A server and slots that these are what matters of."""
    sessions = {
        name: Session(-threshold if one.dead else 0, one.session, one.seq)
        for name, one in zip(NAMES, columns, strict=False)
        if one.session is not None
    }
    slices = {
        (key, name): mine
        for name, one in zip(NAMES, columns, strict=False)
        for key, mine in one.slices
    }
    counters = {
        key: Counter(epoch, Map({name: s for (k, name), s in slices.items() if k == key}))
        for key, epoch in epochs
    }
    server = Server(0, 0, SESSIONS, Map(sessions), Map(counters))
    return server, tuple(
        Slot(instance=one.instance, indeterminate=one.indeterminate) for one in columns
    )


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
    return (
        slot.instance.sent.seq
        if slot.instance is not None and slot.instance.sent is not None
        else 0
    )


# --- Requests that can do nothing ----------------------------------------------------------------


class Future(NamedTuple):
    """What of the context decides which requests can still do anything: whether Redis never loses
    anything, and whether entries stay: the clock never moves again, and nobody begins to leave."""

    lossless: bool
    still: bool


def future(context: Context) -> Future:
    left = context.left
    lossless = not (context.lossy or left.losses or left.rollbacks)
    may_leave = left.operations and "leave" in (*left.first, *left.kinds)
    return Future(lossless, not left.ticks and not may_leave)


class RequestHorizon(NamedTuple):
    """What of a server decides which requests of one instance can still do anything: its session's
    number (0: it has none) and last seq, and whether its entry will last for ever."""

    session: int
    seq: int
    lasting: bool


LOSABLE = RequestHorizon(0, 0, False)
"""Where Redis may lose writes, any request may still do something."""


def horizon(server: Server, name: str, ahead: Future, threshold: int) -> RequestHorizon:
    """(For a server in relative time.)"""
    if not ahead.lossless:
        return LOSABLE
    session = server.sessions.get(name)
    lag = max(0, -server.wall)  # the server has not read it yet, but may at any time
    lasting = ahead.still and all(
        lag - session.heartbeat < threshold for session in server.sessions.values()
    )
    return (
        RequestHorizon(session.number, session.seq, lasting)
        if session
        else RequestHorizon(0, -1, lasting)
    )


def spent_requests(slot: Slot, horizon: RequestHorizon) -> Slot:
    """A copy that can do nothing any more, now or later, need not be kept in the network.

    While Redis loses nothing, a session's number is handed out once and its last seq only grows. So
    a request of a session that is over will be told that there is none, for ever; and one that is
    older than its session's last will be late, until the session is over. It is not the request in
    flight, whose copies matter to what its sender knows. An open can be late for ever only if its
    instance's entry cannot vanish: time stands still, nobody is dead, and no leave is under way.

    What such a copy still does is to make the server read the clock. "A stranger calls" does too.
    """
    if horizon == LOSABLE or not slot.network:
        return slot
    sent = slot.instance.sent if slot.instance is not None else None
    lasting = horizon.lasting and not any(
        isinstance(message, Leave) and _can_act(message, horizon) for message in slot.network
    )
    kept = [
        message
        for message in slot.network
        if message == sent
        or _can_act(message, horizon)
        or (isinstance(message, Open) and not lasting)
    ]
    return slot if len(kept) == len(slot.network) else slot._replace(network=frozenset(kept))


def _can_act(message: Message, horizon: RequestHorizon) -> bool:
    """Whether it would not be late, or of a session that is over, if it arrived now."""
    if horizon.seq > message.seq:
        return False
    return isinstance(message, Open) or horizon.session == message.session


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
    compare searches with; `oracle.check.fast.search` applies the same functions to one part at a time."""
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
            slot = spent_requests(slots[place], horizon(server, name, future(context), threshold))
            slots = (*slots[:place], slot, *slots[place + 1 :])
    if "names" not in reductions:
        return frozenset({World(wall, server, context, slots)})
    same = set()
    for order in permutations(range(len(slots))):
        names = {NAMES[old]: NAMES[new] for new, old in enumerate(order)}
        renamed = rename_server(server, names), rename_context(context, names)
        same.add(World(wall, *renamed, tuple(slots[old] for old in order)))
    return frozenset(same)
