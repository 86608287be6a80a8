"""Which states may count as the same: those that differ only in what can never matter again.

Each function maps a state to one that behaves in the same way: the same events can happen in both,
they break the same properties, and they lead to states that are again the same under these
functions. (The functions are bisimulations. A search that keeps one of two such states finds what a
search that keeps both finds, at the same depth.) Each function says why this is so, and
`tests/oracle/test_reductions.py` compares searches of small worlds with and without them.

The arguments about records and requests are about `model.serve`. The protocols of
`oracle.check.broken` that have another `serve` are explored without these two.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from oracle.check.call_kinds import LEAVE
from oracle.check.state import MORE, Context, Slot, World
from oracle.model import Counter, Leave, Map, Message, Open, Server, View

REDUCTIONS = ("time", "past", "records", "requests", "names")
"""All of them, in the order in which they are applied."""


# --- Time -----------------------------------------------------------------------------------------


def relative_time(server: Server, wall: int) -> Server:
    """Only differences of time matter, so the wall clock and the server's time are set to 0.

    The machine reads the wall clock only as `wall - last wall` (R3), and its own time T only as `T
    - heartbeat` (R5) and `due - T` (R19). So it changes no reply to add a number to both walls, or
    to T, to every heartbeat and to `due`. T - heartbeat is only compared with the session's
    threshold D, and only grows until it is 0 again: D or more may count as D. (A leave compares
    `due` with the heartbeat and the instance's promise. A promise is less than the threshold, and
    `due` is not before T: after D or more of silence they differ, and so they do if D or more
    counts as D.) A server that no request has reached has no time.
    """
    now = server.clock
    if now is None:
        return server
    sessions = {
        name: session._replace(heartbeat=max(session.heartbeat - now, -session.threshold))
        for name, session in server.sessions.items()
    }
    due = None if server.due is None else server.due - now
    return server._replace(clock=0, wall=server.wall - wall, due=due, sessions=Map(sessions))


def relative_world(world: World) -> World:
    """A world whose server and snapshots are in relative time."""
    wall, server, context, slots = world
    context = with_snapshots(context, lambda held: relative_time(held, wall))
    return World(0, relative_time(server, wall), context, slots)


def with_snapshots(context: Context, change: Callable[[Server], Server]) -> Context:
    """The context with its snapshots changed."""
    if not context.snapshots:
        return context
    snapshots = tuple(copy._replace(held=change(copy.held)) for copy in context.snapshots)
    return context._replace(snapshots=snapshots)


# --- The past -------------------------------------------------------------------------------------


def without_past(slot: Slot, rolled_back: int) -> Slot:
    """After a rollback, what earlier answers told is never asked for: the properties that compare
    answers with earlier ones hold only until then (`oracle.check.transitions`)."""
    if rolled_back:
        slot = slot._replace(last_run=(0, 0))
    return slot._replace(first_record=()) if rolled_back == MORE else slot


# --- Completion records ---------------------------------------------------------------------------


def without_record(server: Server, name: str, in_flight: int) -> Server:
    """A completion record that nobody can ask for is as good as an empty one.

    The record has one purpose: to answer a retry of the request that wrote the slice. Only an
    instance that has this request in flight takes the answer. The seqs of an instance only grow:
    once it has gone on, or has crashed, nobody is left to take the answer.

    Args:
        server: the server.
        name: the instance whose records are looked at.
        in_flight: the seq of its request in flight, or 0.
    """
    counters = server.counters
    for key, counter in counters.items():
        mine = counter.slices.get(name)
        if mine is not None and mine.seq != in_flight and mine.before != View():
            slices = counter.slices.put(name, mine._replace(before=View()))
            counters = counters.put(key, Counter(counter.epoch, slices))
    return server if counters is server.counters else server._replace(counters=counters)


def in_flight(slot: Slot) -> int:
    """The seq of the instance's request in flight, or 0."""
    sent = slot.instance.sent if slot.instance is not None else None
    return sent.seq if sent is not None else 0


# --- Requests that can do nothing -----------------------------------------------------------------


class Future(NamedTuple):
    """What the context says about the requests that can still do anything.

    Attributes:
        forward: whether Redis never falls back to an earlier state from now on.
        still: whether no entry can vanish any more because of time, a leave or a loss: the clock
            never moves again, no instance begins to leave, and Redis has lost nothing and never
            will.
    """

    forward: bool
    still: bool


def future(context: Context) -> Future:
    left = context.left
    may_leave = left.operations and LEAVE in (*left.first, *left.kinds)
    lossless = not context.lossy and not left.may_lose
    return Future(not left.may_roll_back, lossless and not left.ticks and not may_leave)


class RequestHorizon(NamedTuple):
    """What the server says about the requests of one instance that can still do anything: the
    number of its session (0: it has none), the last seq of that session, and whether the entry of
    the instance stays for ever."""

    session: int
    seq: int
    lasting: bool


NO_HORIZON = RequestHorizon(0, 0, False)
"""Where Redis may fall back to an earlier state, any request may still do something."""


def request_horizon(server: Server, name: str, ahead: Future) -> RequestHorizon:
    """The horizon of one instance's requests, for a server in relative time."""
    if not ahead.forward:
        return NO_HORIZON
    session = server.sessions.get(name)
    lag = max(0, -server.wall)  # time that the server has not read yet, but may read at any moment
    lasting = ahead.still and all(
        lag - session.heartbeat < session.threshold for session in server.sessions.values()
    )
    if session is None:
        return RequestHorizon(0, -1, lasting)
    return RequestHorizon(session.number, session.seq, lasting)


def without_spent_requests(slot: Slot, horizon: RequestHorizon) -> Slot:
    """A copy that can do nothing, now or later, need not be kept in the network.

    The number of a session is given out once, whatever is lost. While Redis does not fall back to
    an earlier state, a session that is over stays over, and the last seq of one that is not over
    only grows. So a request of a session that is over will always be told that there is none, and a
    request older than the last one of its session will be late until that session is over. The
    request in flight is kept, because its copies matter to what its sender knows. An open is late
    for ever only if its instance's entry cannot vanish: nothing is lost, time stands still, no
    instance is dead, and no leave is under way.

    Such a copy still makes the server read the clock. The event `StrangerCalls` does so too.
    """
    if horizon == NO_HORIZON or not slot.network:
        return slot
    sent = slot.instance.sent if slot.instance is not None else None
    lasting = horizon.lasting and not _may_leave(slot, horizon)
    kept = [
        message
        for message in slot.network
        if message == sent
        or _can_act(message, horizon)
        or (isinstance(message, Open) and not lasting)
    ]
    return slot if len(kept) == len(slot.network) else slot._replace(network=frozenset(kept))


def _may_leave(slot: Slot, horizon: RequestHorizon) -> bool:
    """Whether the instance is leaving, or a leave of it may still arrive."""
    call = slot.instance.call if slot.instance is not None else None
    if call is not None and call.leaving:
        return True
    return any(isinstance(one, Leave) and _can_act(one, horizon) for one in slot.network)


def _can_act(message: Message, horizon: RequestHorizon) -> bool:
    """Whether it would be neither late nor of a session that is over, if it arrived now."""
    if horizon.seq > message.seq:
        return False
    return isinstance(message, Open) or horizon.session == message.session


# --- Names ----------------------------------------------------------------------------------------


def rename_server(server: Server, names: dict[str, str]) -> Server:
    """The machine only compares names for equality, so renaming instances changes nothing but the
    names. (Nothing depends on their order: quiescent worlds are inspected in every order.)"""
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
    """The snapshots and the linearizations under other names."""
    orders = context.linearizations
    renamed = orders and Map({key: each.rename(names) for key, each in orders.items()})
    context = with_snapshots(context, lambda held: rename_server(held, names))
    return context._replace(linearizations=renamed)
