"""The server: one function from (state, request, wall clock) to (state, reply).

Rules R3 to R8, R10, R11, R14 and R16, as far as the server keeps them. Each function names its own.
"""

from __future__ import annotations

from collections.abc import Callable

from oracle.model.maps import Map
from oracle.model.messages import (
    Done,
    Late,
    Leave,
    Left,
    Memory,
    Message,
    NoSession,
    Open,
    Opened,
    Reply,
    Request,
)
from oracle.model.operations import View, run_steps, writes
from oracle.model.state import Counter, Server, Session, Slice


def serve(server: Server, request: Message, wall: int) -> tuple[Server, Reply]:
    """The whole of the server: one request in, one reply out."""
    server = _tick(server, wall)
    if isinstance(request, Open):
        return _open(server, request)
    session = server.sessions.get(request.instance)
    if session is None or session.number != request.session:
        return server, NoSession()
    if session.seq < request.acked:
        return _close_every_session(server), NoSession()
    if session.seq > request.seq:
        return server, Late(session.seq)
    if isinstance(request, Leave):
        return server._replace(sessions=server.sessions.without(request.instance)), Left()
    if session.seq == request.seq and _lacks_a_record(server, request):
        return _close_every_session(server), NoSession()
    return _execute(server, request, session)


def _tick(server: Server, wall: int) -> Server:
    """R3: time is the sum of the wall clock's steps forward; the first request starts it."""
    now = wall if server.clock is None else server.clock + max(0, wall - server.wall)
    return server._replace(clock=now, wall=wall)


def _now(server: Server) -> int:
    assert server.clock is not None, "the clock starts with the first request"
    return server.clock


def _open(server: Server, request: Open) -> tuple[Server, Reply]:
    """R11 holds for opening too: a retry gets the same session, a late copy gets nothing.

    An entry that is older than what the instance has seen answered is proof that Redis lost writes;
    then nobody's session is worth keeping (R10). Not if its session is newer than the instance's
    last: then a late copy of an earlier open has made it. R14: an open closes the sessions of the
    dead.
    """
    session = server.sessions.get(request.instance)
    if session is not None and session.seq > request.seq:
        return server, Late(session.seq)
    if session is not None and session.seq == request.seq:
        return _heard(server, request.instance, session), Opened(session.number)
    if session is not None and session.seq < request.acked and session.number <= request.last:
        server = _close_every_session(server)
    dead = [
        name
        for name in server.sessions
        if name != request.instance and _is_dead(server, name, request.threshold)
    ]
    number = server.opened + 1
    sessions = server.sessions.without(*dead)
    sessions = sessions.put(request.instance, Session(_now(server), number, request.seq))
    return server._replace(opened=number, sessions=sessions), Opened(number)


def _close_every_session(server: Server) -> Server:
    """R10: after lost writes each instance is to find out, and to put its slices back."""
    return server._replace(sessions=Map())


def _lacks_a_record(server: Server, request: Request) -> bool:
    """The session says that this request was executed, its slice does not: Redis lost writes."""
    written = [part.key for part in request.parts if writes(part.steps)]
    slices = [server.slice_of(key, request.instance) for key in written]
    return any(mine is None or mine.seq != request.seq for mine in slices)


def _execute(server: Server, request: Request, session: Session) -> tuple[Server, Reply]:
    """Heartbeat, remove the dead, put back, run the steps; or answer from the record (R11)."""
    retry = session.seq == request.seq
    server = _heard(server, request.instance, session._replace(seq=request.seq))
    views = []
    for part in request.parts:
        if retry and writes(part.steps):
            views.append(server.counters[part.key].slices[request.instance].before)
            continue
        server = _remove_dead(server, part.key, request)
        counter = _put_back(server.counters.get(part.key, Counter()), request.instance, part.memory)
        before = counter.view(request.instance)
        views.append(before)
        if writes(part.steps):
            after, _ = run_steps(before, part.steps)
            mine = Slice(after.count, after.epoch, request.seq, before)
            counter = Counter(after.epoch, counter.slices.put(request.instance, mine))
        server = server._replace(counters=server.counters.put(part.key, counter))
    return server, Done(tuple(views))


def _heard(server: Server, instance: str, session: Session) -> Server:
    """R4: every request of an instance, a retry too, sets its heartbeat."""
    session = session._replace(heartbeat=_now(server))
    return server._replace(sessions=server.sessions.put(instance, session))


def _is_dead(server: Server, instance: str, threshold: int) -> bool:
    """R5, as seen by a caller with this threshold."""
    session = server.sessions.get(instance)
    return session is None or _now(server) - session.heartbeat >= threshold


def _remove_dead(server: Server, key: str, request: Request) -> Server:
    """R8: the slices of the dead go, current or stale, and their owners' sessions are closed."""
    counter = server.counters.get(key, Counter())
    dead = [
        name
        for name in counter.slices
        if name != request.instance and _is_dead(server, name, request.threshold)
    ]
    counter = counter._replace(slices=counter.slices.without(*dead))
    return server._replace(
        sessions=server.sessions.without(*dead),
        counters=server.counters.put(key, counter),
    )


def _put_back(counter: Counter, instance: str, memory: Memory) -> Counter:
    """R10: the owner's memory wins over an older or equal copy, unless the epoch has moved on.

    A newer epoch in memory is the true one: Redis has lost the step that made it. What already
    counts the same is left as it is.
    """
    counter = counter._replace(epoch=max(counter.epoch, memory.epoch))
    mine = counter.slices.get(instance)
    if mine is not None and mine.seq > memory.seq:
        return counter
    count = memory.count if memory.epoch == counter.epoch else 0
    if count == counter.own(instance):
        return counter
    restored = Slice(count, counter.epoch, memory.seq, View())
    return counter._replace(slices=counter.slices.put(instance, restored))


Serve = Callable[[Server, Message, int], tuple[Server, Reply]]
"""A server's transition: `serve`, or one with a defect planted."""
